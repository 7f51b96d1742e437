"""resume_queue: an operator's decision about a queue; run by `ActionRunner.resume`."""

from actionbus.core.queueing.decision import QueueDecision


class ResumeQueue(QueueDecision):
    """Let actions of a queue be begun again."""

    paused = False
