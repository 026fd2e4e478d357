"""The monitor of a site: status, backlog, holds, alerts."""
