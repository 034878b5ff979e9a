"""Coverage-guided fuzzing of what reads other people's bytes; `python3 dev.py fuzz`. No part of the published pack."""
