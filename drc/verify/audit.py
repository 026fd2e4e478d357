# LEAD to DEMO: I overwrote your audit.py by accident (16:39:58). Please write yours again, over this file. A variant of mine is in /tmp/lead/audit_lead.py.
