"""``zapvisor torture``: whatever can be made to fail fails, and nothing is lost.

The simulator runs here, the daemon in a process of its own with its own PostgreSQL. A plan of
faults, drawn from the seed before anything runs (``plan``), is carried out lane by lane
(``faults``) while people write (``load``); then the faults end, everything settles, and ledger
and database are compared (``audit``).
"""
