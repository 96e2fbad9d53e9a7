"""Fuzzing of everything that reads bytes from a peer or from a stored row.

``targets`` lists the harnesses; ``python -m fuzz`` runs them with coverage feedback (see
``run.py``), ``python -m fuzz.seeds`` writes the seeds of the corpus, and
``tests/whatsapp/test_fuzz_corpus.py`` replays the corpus without a fuzzer.
"""
