"""Sends pod statuses to the API server: the latest one of each pod, as few patches as will do.

It exists so that workers never wait for the API server, and so that an outage costs one remembered status
a pod and nothing else. It must not know how a status came about.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from typing import NoReturn, Protocol

from providers.faultpoints import reached
from vkubelet import logs, telemetry
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import Pod, PodStatus
from vkubelet.logs import Subject
from vkubelet.pods.statusdiff import status_patch

logger = logging.getLogger(__name__)

SENDERS = 8
CALM = 0.1  # seconds without a new status after which nobody is kept waiting by anything else
RETRY_FIRST, RETRY_MOST = (
    0.2,
    4.0,
)  # seconds and a fifth more; statuses arrive within 5 s of a server's return
REFUSED_AGAIN = 4.0  # seconds after which a status is sent again that was forbidden


class StatusSink(Protocol):
    """Takes the statuses of pods, for whoever wants to know of them."""

    def report(self, pod: Pod, status: PodStatus) -> None:
        """`status` is the pod's from now on. Never blocks."""
        ...

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        """The pod has ended on this node for good (None: its status stays as it is); nothing runs any more.

        Returns when what is left of it on this node may be removed.
        """
        ...

    def forget(self, uid: str) -> None:
        """The pod's object does not exist any more."""
        ...


@dataclasses.dataclass(slots=True)
class _Entry:
    """What the reporter knows of one pod; the pod itself would be an old version kept for its name."""

    namespace: str
    name: str
    sent: PodStatus
    wanted: PodStatus
    delete: bool = False
    done: asyncio.Future[None] | None = None
    queued: bool = False
    sending: bool = False
    due_since: float | None = None
    forbidden: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`, as logs name the pod."""
        return f"{self.namespace}/{self.name}"


class Reporter:
    """One entry a pod; a few senders take the pods whose status is due."""

    def __init__(self, client: ApiClient) -> None:
        """`client` is the node's own."""
        self._client = client
        self._entries: dict[str, _Entry] = {}
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self._failures = 0
        self._queued_at = 0.0

    def report(self, pod: Pod, status: PodStatus) -> None:
        """Make `status` the one to send; what was not yet sent of an older one never is."""
        entry = self._entry(pod)
        if entry.delete:
            return
        entry.wanted = status
        self._queue(pod.metadata.uid, entry)

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        """Send the last status (None: leave it as it is), then delete the object as a kubelet does.

        Returns when the server has done both or knows the pod no longer; it may take as long as an outage.
        """
        self.report(pod, self._entry(pod).sent if status is None else status)
        entry = self._entry(pod)
        entry.delete = True
        entry.done = entry.done or asyncio.get_running_loop().create_future()
        await asyncio.shield(entry.done)

    def forget(self, uid: str) -> None:
        """The pod is gone from the server: nothing more is sent for it."""
        entry = self._entries.pop(uid, None)
        if entry is not None and entry.done is not None and not entry.done.done():
            entry.done.set_result(None)

    def queue(self) -> dict[str, int]:
        """How many pods' statuses are known, due and on their way, and how many failed in a row."""
        return {
            "known": len(self._entries),
            "due": self._due.qsize(),
            "sending": sum(entry.sending for entry in self._entries.values()),
            "failures": self._failures,
        }

    async def run(self) -> NoReturn:
        """Send what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send_all())
        raise AssertionError("the senders never end")

    async def drain(self, timeout: float) -> None:
        """Wait until nothing is due or being sent, at most `timeout` seconds; called before shutdown."""
        try:
            async with asyncio.timeout(timeout):
                await self._due.join()
        except TimeoutError:
            logger.warning("pod statuses were still unsent after %s s", timeout)

    async def calm(self, longest: float) -> None:
        """Return once no status is due, nor was a moment ago; after `longest` seconds in any case.

        What is of less worth than a status waits here before it takes the API server's time.
        """
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                while True:
                    await self._due.join()
                    pause = self._queued_at + CALM - loop.time()
                    if pause <= 0:
                        return
                    await asyncio.sleep(pause)

    def _entry(self, pod: Pod) -> _Entry:
        meta = pod.metadata
        entry = self._entries.get(meta.uid)
        if entry is None:
            entry = self._entries[meta.uid] = _Entry(meta.namespace, meta.name, pod.status, pod.status)
        return entry

    def _queue(self, uid: str, entry: _Entry) -> None:
        if entry.queued:
            return
        entry.queued = True
        self._queued_at = asyncio.get_running_loop().time()
        entry.due_since = entry.due_since or self._queued_at
        if not entry.sending:
            self._due.put_nowait(uid)

    async def _send_all(self) -> NoReturn:
        while True:
            uid = await self._due.get()
            try:
                await self._send_one(uid)
            finally:
                self._due.task_done()

    async def _send_one(self, uid: str) -> None:
        entry = self._entries.get(uid)
        if entry is None:
            return
        entry.queued, entry.sending = False, True
        logs.speak_of(Subject(entry.namespace, entry.name, uid))
        try:
            await self._send(uid, entry)
            self._failures = 0
        except ApiUnavailableError as error:
            await self._pause(entry, error, None)
        except ApiError as error:
            if error.status in (404, 409):
                self.forget(uid)  # gone, or another pod has its name: the informer tells the rest
            elif error.status in (401, 429, 500, 502, 503, 504):  # 401: credentials are renewed by others
                await self._pause(entry, error, error.retry_after)
            elif entry.delete:
                await self._pause(entry, error, None)
            elif error.status == 403:
                self._forbidden(uid, entry, error)
            else:
                entry.sent = entry.wanted  # refused for good: the next change is tried again
                logger.warning("pod %s: the API server refuses its status: %s", entry.key, error)
        finally:
            entry.sending = False
            if entry.queued:
                self._due.put_nowait(uid)

    async def _send(self, uid: str, entry: _Entry) -> None:
        path = f"/api/v1/namespaces/{entry.namespace}/pods/{entry.name}"
        wanted = entry.wanted
        patch = status_patch(uid, entry.sent, wanted)
        if patch is not None:
            await self._client.patch(f"{path}/status", patch)
            reached("status-sent")
            entry.sent, entry.forbidden = wanted, False
        now = asyncio.get_running_loop().time()
        if patch is not None and entry.due_since is not None:
            telemetry.POD_STATUS_SYNC_DURATION.observe(now - entry.due_since)
        entry.due_since = now if entry.queued else None
        if entry.delete and not entry.queued:
            options = f'{{"gracePeriodSeconds":0,"preconditions":{{"uid":"{uid}"}}}}'
            await self._client.delete(path, body=options.encode())
            self.forget(uid)

    def _forbidden(self, uid: str, entry: _Entry, error: ApiError) -> None:
        """Try again later, and hold up no other pod: a server that has just been started forbids much."""
        if not entry.forbidden:
            logger.warning("pod %s: the API server forbids its status: %s", entry.key, error)
        entry.forbidden = True
        asyncio.get_running_loop().call_later(REFUSED_AGAIN, self._again, uid)

    def _again(self, uid: str) -> None:
        entry = self._entries.get(uid)
        if entry is not None:
            self._queue(uid, entry)

    async def _pause(self, entry: _Entry, error: Exception, retry_after: float | None) -> None:
        """Hold this sender back, longer with every failure in a row, and put the pod in line again."""
        if self._failures == 0:
            logger.warning("pod %s: status not sent, trying again: %s", entry.key, error)
        self._failures += 1
        delay = min(RETRY_FIRST * 2 ** min(self._failures // SENDERS, 5), RETRY_MOST)
        entry.queued = True
        await asyncio.sleep((retry_after or delay) * random.uniform(0.8, 1.2))  # noqa: S311  jitter
