"""Real MySQL servers on this machine, for the demo, the tests and the benchmarks."""

from drc.sandbox.config import ConfigSpec
from drc.sandbox.fetch import fetch_tool
from drc.sandbox.servers import SandboxSite
from drc.sandbox.set import Sandbox
from drc.sandbox.spec import KafkaSpec, SiteSpec

__all__ = ["ConfigSpec", "KafkaSpec", "Sandbox", "SandboxSite", "SiteSpec", "fetch_tool"]
