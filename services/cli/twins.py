"""The outside world in one process: what the quickstart runs on, and what the documents of HTTP are made from."""

from libs.adapters.memory import (
    MemoryContentStore,
    MemoryGroupOffsets,
    MemoryGroupReader,
    MemoryLog,
    MemoryModelStore,
    MemoryPartitionReader,
    MemoryProducer,
    MemorySnapshotStore,
    MemoryTopicAdmin,
    MemoryUserHistory,
)
from libs.adapters.status import MemoryStatusBoard
from libs.events.topics import EVENTS, LEARNER_GROUP
from services.ingest import assembly as ingest_assembly
from services.learner import assembly as learner_assembly
from services.serving import assembly as serving_assembly


class Twins:
    """A log, stores and histories in memory, shared by the services that are put together on them."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.snapshots = MemorySnapshotStore()
        self.history = MemoryUserHistory()
        self.contents = MemoryContentStore()
        self.board = MemoryStatusBoard()

    def of_ingest(self) -> ingest_assembly.Ports:
        """Return what ingest needs."""
        return ingest_assembly.Ports(
            topics=MemoryTopicAdmin(self.log),
            producer=MemoryProducer(self.log),
            history_reader=MemoryGroupReader(self.log, "moard-projector", EVENTS),
            replay_reader=lambda: MemoryPartitionReader(self.log, "moard-projector-replay"),
            catalogue_reader=MemoryPartitionReader(self.log, "moard-catalogue"),
            learner_offsets=MemoryGroupOffsets(self.log, LEARNER_GROUP),
            history=self.history,
            contents=self.contents,
            board=self.board,
        )

    def of_learner(self) -> learner_assembly.Ports:
        """Return what the learner needs."""
        return learner_assembly.Ports(
            topics=MemoryTopicAdmin(self.log),
            dead_letters=MemoryProducer(self.log),
            reader=MemoryPartitionReader(self.log, LEARNER_GROUP),
            snapshots=self.snapshots,
            board=self.board,
        )

    def of_serving(self) -> serving_assembly.Ports:
        """Return what serving needs."""
        return serving_assembly.Ports(
            topics=MemoryTopicAdmin(self.log),
            producer=MemoryProducer(self.log),
            reader=lambda: MemoryPartitionReader(self.log, "moard-serving"),
            snapshots=self.snapshots,
            models=MemoryModelStore(),
            history=self.history,
            store=self.contents,
            board=self.board,
        )
