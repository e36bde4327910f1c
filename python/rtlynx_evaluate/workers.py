# SPDX-License-Identifier: Apache-2.0
"""Who does the work: this process, or actors of Ray on the GPUs of one or many machines.

A picture and its values depend on nothing but the picture, and arrive in the order in which they were
asked for: however many workers there are, the results are the same.
"""

import gc
import itertools
import os

from rtlynx_metrics.errors import MetricsError, import_extra
from rtlynx_metrics.fid import BATCH
from rtlynx_metrics.measure import Networks, Scorer

from .painter import Painter

_DRAWN_AT_ONCE = 4
_SCORED_AT_ONCE = BATCH  # features of a picture are those of its batch, to the last bit


class Worker:
    """One pipeline, then the networks of the measures."""

    def __init__(self, settings, make_networks=Networks):
        os.environ["HF_HUB_OFFLINE"] = "1"
        self._settings, self._make_networks = settings, make_networks
        self._painter, self._scorer = Painter(settings), None

    def calibrate(self, method):
        self._painter.calibrate(method)

    def draw(self, method, jobs):
        return self._painter.draw(method, jobs)

    def open_scorer(self, metrics, weights):
        self._painter = None  # its memory is the networks' now; sparse layers are in cycles
        gc.collect()
        self._scorer = Scorer(metrics, self._make_networks(weights, self._settings.device))
        return self._scorer.fid_features() if "fid" in metrics else None

    def values(self, name, pictures, partners):
        return list(self._scorer.values(name, pictures, partners))


class HerePool:
    """This process."""

    def __init__(self, *worker_arguments):
        self._worker = Worker(*worker_arguments)

    def one(self, action, *arguments):
        return getattr(self._worker, action)(*arguments)

    everyone = one

    def map(self, action, argument_lists):
        """Yields the results, in order."""
        for arguments in argument_lists:
            yield self.one(action, *arguments)


class RayPool:
    """Actors, one a GPU, or a CPU where the device is one."""

    def __init__(self, count, device, *worker_arguments):
        self._ray = import_extra("ray", "ray")
        from ray.util import ActorPool
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        kind = "GPU" if device == "cuda" else "CPU"
        there = int(self._ray.cluster_resources().get(kind, 0))
        if count > there:
            raise MetricsError(f"--workers: required at most the {there} {kind}s that Ray has, "
                               f"got {count}")
        remote = self._ray.remote(Worker).options(
            num_cpus=1, num_gpus=1 if kind == "GPU" else 0)
        self._actors = [remote.remote(*worker_arguments) for _ in range(count)]
        self._pool = ActorPool(self._actors)

    def one(self, action, *arguments):
        return self._get([getattr(self._actors[0], action).remote(*arguments)])[0]

    def everyone(self, action, *arguments):
        return self._get([getattr(actor, action).remote(*arguments) for actor in self._actors])[0]

    def map(self, action, argument_lists):
        """Yields the results, in order."""
        results = self._pool.map(
            lambda actor, arguments: getattr(actor, action).remote(*arguments), argument_lists)
        while True:
            try:
                result = next(results)
            except StopIteration:
                return
            except self._ray.exceptions.RayError as error:
                raise self._told(error) from error
            yield result

    def _get(self, references):
        try:
            return self._ray.get(references)
        except self._ray.exceptions.RayError as error:
            raise self._told(error) from error

    @staticmethod
    def _told(error):
        cause = getattr(error, "cause", None)
        if isinstance(cause, MetricsError):
            return cause
        lines = str(cause or error).strip().splitlines()
        return MetricsError(f"a worker stopped: {lines[-1] if lines else type(error).__name__}")


def make_pool(workers, *worker_arguments):
    """``workers`` None: this process."""
    if workers is None:
        return HerePool(*worker_arguments)
    return RayPool(workers, worker_arguments[0].device, *worker_arguments)


def in_parts(items, size):
    items = iter(items)
    return iter(lambda: list(itertools.islice(items, size)), [])


def draw(pool, method, jobs, finished):
    """Draws the jobs; ``finished`` is called with the number of pictures that were."""
    for count in pool.map("draw", [(method, part) for part in in_parts(jobs, _DRAWN_AT_ONCE)]):
        finished(count)


class PoolScorer:
    """A Scorer (rtlynx_metrics.measure) of the workers' networks."""

    def __init__(self, pool, metrics, weights):
        self._pool = pool
        self._features = pool.everyone("open_scorer", metrics, weights)

    def fid_features(self):
        return self._features

    def values(self, name, pictures, partners=()):
        parts = [(name, part, list(partners[index * _SCORED_AT_ONCE:][:_SCORED_AT_ONCE]))
                 for index, part in enumerate(in_parts(pictures, _SCORED_AT_ONCE))]
        for values in self._pool.map("values", parts):
            yield from values
