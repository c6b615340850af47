"""Whatever happens in whatever order: the promises of the machine, against a model of the world."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jlabd.core.actions import (
    Action,
    CheckActivity,
    KillTree,
    Probe,
    SignalServer,
    Spawn,
    StandIn,
    StepAside,
    Usher,
)
from jlabd.core.events import (
    ActivityChecked,
    Added,
    Event,
    Exited,
    MemoryRanOut,
    ProbeFailed,
    ProbeSucceeded,
    Reconfigured,
    Recovered,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimePassed,
    TreeEmptied,
    Visited,
)
from jlabd.core.idleness import notice_s
from jlabd.core.machine import step
from jlabd.core.memory import recall, remember
from jlabd.core.state import AT_REST, PATIENCE_S, SERVING, Actual, Desired, Front, Instance
from jlabd.spec import IdleSpec, InstanceSpec, ProbeSpec, Restart, RestartPolicy, UnixListen

LEFT = ("a server", "remains", "nothing")
CHANCE = st.floats(0, 1, exclude_max=True)


class World(RuleBasedStateMachine):
    """A world that spawns, answers, crashes and lingers as it likes, and an operator who changes his mind."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.instance = Instance()
        self.spawning: int | None = None
        self.server: int | None = None
        self.tree: set[int] = set()
        self.killing: set[int] = set()
        self.probes: set[int] = set()
        self.checks: set[int] = set()
        self.front = Front.LAB
        self.happenings = 0
        self.connected = False
        self.last_active = 0.0
        self.announced_at = 0.0

    @initialize(
        policy=st.sampled_from(Restart),
        give_up=st.integers(0, 3),
        initial=st.sampled_from([0.0, 1.0, 20.0]),
        interval=st.sampled_from([0.0, 30.0]),
        start=st.booleans(),
        on_demand=st.booleans(),
        sleepy=st.sampled_from([0.0, 100.0, 7200.0]),
        earlier=st.none() | st.tuples(st.sampled_from(Desired), st.sampled_from(Actual), st.sampled_from(LEFT)),
    )
    def begin(self, *, policy, give_up, initial, interval, start, on_demand, sleepy, earlier) -> None:
        self.spec = InstanceSpec(
            "x",
            UnixListen("/s"),
            restart=RestartPolicy(policy=policy, give_up_after=give_up, initial_s=initial),
            probe=ProbeSpec(interval_s=interval),
            on_demand=on_demand,
            idle=IdleSpec(stop_after_s=sleepy),
        )
        if earlier is None:
            self.post(Added(start))
        else:
            self.recover(*earlier)

    def recover(self, desired: Desired, actual: Actual, left: str) -> None:
        """Begin where an earlier daemon, whose memory may be stale, ended."""
        self.instance = Instance(
            desired=desired,
            actual=actual,
            incarnation=7,
            ready_at=-500.0 if actual in SERVING else None,
            deadline=3.0 if actual is Actual.BACKOFF else None,
            going_idle=actual is Actual.STOPPING,
        )
        if left != "nothing":
            self.tree.add(7)
        if left == "a server":
            self.server = 7
        self.post(Recovered(1007 if left == "a server" else None, tree_empty=left == "nothing"))

    def post(self, event: Event) -> None:
        before = self.instance
        self.instance, actions = step(self.spec, self.instance, event, self.now)
        for action in actions:
            self.perform(action)
        if self.instance.going_idle and not before.going_idle and not isinstance(event, Recovered):
            assert isinstance(event, ActivityChecked), "put to sleep without a look"
            assert before.sleep_at is not None, "put to sleep unannounced"
            assert not self.connected, "put to sleep while somebody was there"
            assert self.now - self.last_active >= self.spec.idle.stop_after_s, "put to sleep too early"
            assert self.now - self.announced_at >= notice_s(self.spec.idle), "put to sleep without due notice"
            assert (self.instance.failures, self.instance.restarts) == (before.failures, before.restarts)
        if self.instance.sleep_at is not None and before.sleep_at is None:
            assert self.instance.reason != before.reason, "announced without a word"
            self.announced_at = self.now
        if self.instance.actual in SERVING and before.actual not in SERVING:
            self.something_happens()

    def perform(self, action: Action) -> None:
        match action:
            case Spawn(number):
                assert not self.tree, "two incarnations at once"
                assert self.spawning is None
                assert self.front is not Front.STAND_IN, "visitors are told that nothing runs"
                self.spawning = number
            case KillTree(number):
                assert number == self.instance.incarnation
                self.killing.add(number)
            case SignalServer(number, _):
                assert self.server == number, "a signal for a server that does not live"
            case Probe(number, timeout_s):
                assert timeout_s > 0
                self.probes.add(number)
            case CheckActivity(number):
                assert self.server == number, "a question to a server that does not live"
                self.checks.add(number)
            case StandIn():
                self.answer_as(Front.STAND_IN)
            case Usher():
                self.answer_as(Front.USHER)
            case StepAside():
                assert self.instance.actual in SERVING
                self.answer_as(Front.LAB)

    def answer_as(self, front: Front) -> None:
        assert front is not self.front
        self.front = front

    def something_happens(self) -> None:
        self.happenings += 1
        self.last_active = self.now

    # The operator

    @rule(sleepy=st.sampled_from([0.0, 100.0, 7200.0]))
    def changes_the_configuration(self, sleepy: float) -> None:
        self.spec = replace(self.spec, idle=IdleSpec(stop_after_s=sleepy))
        self.post(Reconfigured())

    @rule()
    def start(self) -> None:
        self.post(StartRequested())
        assert self.instance.desired is Desired.RUNNING

    @rule()
    def stop(self) -> None:
        self.post(StopRequested())
        assert self.instance.desired is Desired.STOPPED

    @rule()
    def restart(self) -> None:
        self.post(RestartRequested())
        assert self.instance.desired is Desired.RUNNING

    # The users

    @rule()
    def visit(self) -> None:
        before = self.instance
        self.post(Visited())
        if before.actual in {Actual.STOPPED, Actual.FAILED, Actual.BACKOFF} or before.desired is Desired.STOPPED:
            assert self.instance == before, "a visitor may only wake what sleeps"
        if before.actual is Actual.IDLE:
            assert self.instance.actual is Actual.STARTING
        if before.actual is Actual.IDLE or before.going_idle:
            assert not self.instance.going_idle, "a visit wakes"
            assert self.instance.visited_at == self.now

    @precondition(lambda self: self.instance.actual in SERVING)
    @rule()
    def works(self) -> None:
        self.something_happens()

    @precondition(lambda self: self.instance.actual in SERVING)
    @rule()
    def comes_or_goes(self) -> None:
        self.connected = not self.connected
        self.happenings += 1 if self.connected else 0  # nobody notes when a connection ends
        self.last_active = self.now

    @precondition(lambda self: bool(self.checks))
    @rule(known=st.booleans())
    def check_ends(self, known: bool) -> None:
        number = self.checks.pop()
        quiet = known and not self.connected
        self.post(ActivityChecked(number, f"{number} {self.happenings}" if quiet else None))

    # The world

    @precondition(lambda self: self.spawning is not None and self.spawning not in self.killing)
    @rule()
    def spawned(self) -> None:
        self.server = self.spawning
        self.tree.add(self.spawning)
        self.spawning = None
        self.post(Spawned(self.server, pid=1000 + self.server))

    @precondition(lambda self: self.spawning is not None)
    @rule(permanent=st.booleans(), jitter=CHANCE)
    def spawn_failed(self, permanent: bool, jitter: float) -> None:
        number, self.spawning = self.spawning, None
        self.post(SpawnFailed(number, "no", permanent, jitter))

    @precondition(lambda self: self.server is not None)
    @rule(clean=st.booleans(), permanent=st.booleans())
    def server_exits(self, clean: bool, permanent: bool) -> None:
        number, self.server, self.connected = self.server, None, False
        deliberate = self.instance.actual is Actual.STOPPING and self.instance.failure is None
        failures = self.instance.failures
        self.post(Exited(number, "gone", clean, permanent and not clean))
        if deliberate:
            assert self.instance.failures == failures, "a deliberate exit was counted"

    @rule(late=st.booleans())
    def memory_runs_out(self, late: bool) -> None:
        before = self.instance
        self.post(MemoryRanOut(before.incarnation - late, 1, "killed"))
        after = replace(self.instance, reason=before.reason, memory_kills=before.memory_kills)
        assert after == before, "what happens to others ends no server"

    @precondition(lambda self: bool(self.killing))
    @rule(jitter=CHANCE)
    def tree_empties(self, jitter: float) -> None:
        number = self.killing.pop()
        self.tree.discard(number)
        if self.spawning == number:
            self.spawning = None
        if self.server == number:
            self.server, self.connected = None, False
            self.post(Exited(number, "killed"))
            self.killing.discard(number)
        deliberate = self.instance.failure is None
        failures, going_idle = self.instance.failures, self.instance.going_idle
        self.post(TreeEmptied(number, jitter))
        if deliberate:
            assert self.instance.failures == failures, "a deliberate end was counted"
        if going_idle:
            assert self.instance.actual is Actual.IDLE, "who goes to sleep sleeps"

    @rule(server_dies=st.booleans(), rest_dies=st.booleans(), jitter=CHANCE)
    def daemon_dies(self, server_dies: bool, rest_dies: bool, jitter: float) -> None:
        """With it dies all that it had under way; the next one finds what lives, and what the last one wrote down."""
        if server_dies:
            self.server, self.connected = None, False
        if self.server is None and rest_dies:
            self.tree.clear()
        self.spawning = None
        for under_way in (self.killing, self.probes, self.checks):
            under_way.clear()
        self.front = Front.LAB
        before = self.instance
        self.instance = recall(remember(before, None, {}, self.now), self.now)
        self.post(Recovered(None if self.server is None else 1000 + self.server, not self.tree, jitter))
        if before.actual is Actual.IDLE:
            assert self.instance.actual is Actual.IDLE, "a new daemon wakes nobody"
        if before.going_idle:
            assert self.instance.going_idle or self.instance.actual is Actual.IDLE, "who goes to sleep sleeps"

    @precondition(lambda self: bool(self.probes))
    @rule(answered=st.booleans())
    def probe_ends(self, answered: bool) -> None:
        number = self.probes.pop()
        self.post(ProbeSucceeded(number) if answered else ProbeFailed(number, "no answer"))

    @rule(seconds=st.floats(0, 300))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.post(TimePassed())

    @precondition(lambda self: self.instance.next_deadline() is not None)
    @rule()
    def timer_fires(self) -> None:
        self.now = max(self.now, self.instance.next_deadline())
        self.post(TimePassed())

    # The promises

    @invariant()
    def at_rest_nothing_lives(self) -> None:
        if self.instance.actual in AT_REST:
            assert not self.tree
            assert self.spawning is None
            assert self.instance.pid is None

    @invariant()
    def somebody_answers_but_never_two(self) -> None:
        assert self.front is self.instance.front
        assert not (self.front is Front.STAND_IN and self.tree)
        assert (self.front is Front.STAND_IN) == self.instance.rests_openly

    @invariant()
    def nobody_waits_for_ever_without_a_word(self) -> None:
        instance = self.instance
        if instance.actual not in SERVING and instance.front is Front.LAB and instance.actual is not Actual.BACKOFF:
            assert instance.usher_at is not None
            assert instance.usher_at - instance.since <= PATIENCE_S + 1e-6

    @invariant()
    def idle_is_asleep(self) -> None:
        if self.instance.actual is Actual.IDLE:
            assert self.instance.next_deadline() is None
            assert self.instance.desired is Desired.RUNNING

    @invariant()
    def going_to_sleep_is_stopping(self) -> None:
        if self.instance.going_idle:
            assert (self.instance.desired, self.instance.actual) == (Desired.RUNNING, Actual.STOPPING)

    @invariant()
    def announced_means_ready(self) -> None:
        if self.instance.sleep_at is not None:
            assert self.instance.actual is Actual.READY
            assert self.spec.idle.stop_after_s

    @invariant()
    def visitors_wait_for_what_is_on_its_way(self) -> None:
        if self.instance.visited_at is not None:
            assert self.instance.actual in {Actual.STARTING, Actual.STOPPING}

    @invariant()
    def sleepy_is_checked(self) -> None:
        instance = self.instance
        if instance.actual is Actual.READY and self.spec.idle.stop_after_s:
            assert instance.check_at is not None or instance.incarnation in self.checks

    @invariant()
    def ready_only_with_a_living_server(self) -> None:
        if self.instance.actual in SERVING:
            assert self.server == self.instance.incarnation
            assert self.instance.ready_at is not None

    @invariant()
    def waiting_ends(self) -> None:
        """Every state that waits has a deadline, or a kill under way that will be answered."""
        match self.instance.actual:
            case Actual.STARTING | Actual.BACKOFF:
                assert self.instance.deadline is not None
            case Actual.STOPPING:
                assert self.instance.deadline is not None or self.killing
            case _:
                assert self.instance.deadline is None

    @invariant()
    def backoff_is_bounded(self) -> None:
        if self.instance.actual is Actual.BACKOFF:
            assert self.instance.deadline - self.instance.since <= self.spec.restart.max_s

    @invariant()
    def not_desired_is_on_its_way_down(self) -> None:
        if self.instance.desired is Desired.STOPPED:
            assert self.instance.actual in {Actual.STOPPED, Actual.STOPPING}

    @invariant()
    def serving_is_probed(self) -> None:
        if self.instance.actual in SERVING and self.spec.probe.interval_s:
            assert self.instance.probe_at is not None or self.instance.incarnation in self.probes

    def teardown(self) -> None:
        """From wherever the world is, a stop leads to stopped within two events of the world."""
        if not hasattr(self, "spec"):
            return
        self.post(StopRequested())
        self.now += 1e6
        self.post(TimePassed())
        if self.instance.actual is Actual.STOPPING:
            self.tree_empties(0.0)
        assert self.instance.actual is Actual.STOPPED


World.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestWorld = World.TestCase
