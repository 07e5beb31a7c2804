"""What the pocket assistant is asked to do, and what counts as right: prompts, their split, verifiers, solutions.

Public: ``task`` (the dataclass and its files), ``split`` (which names, numbers and phrasings are held out, drawn before
anything else), ``build`` (the stage), ``verifiers`` (right and wrong), ``solve`` (gold trajectories with real tools).
Alignment and evaluation share this room and nothing else, so that neither can bend what right means.
"""
