"""pause_queue: an operator's decision about a queue; run by `ActionRunner.pause`."""

from actionbus.core.queueing.decision import QueueDecision


class PauseQueue(QueueDecision):
    """Let no more actions of a queue be begun."""

    paused = True
