"""Ranks: the processes of a distributed training. Each is audited, and the first of a machine reports for all."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.findings import ORDER, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradlab.audit.summary import OptimizerSummary

NUMBERS = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


class RankRecord(NamedTuple):
    """What the audit of one rank found.

    Attributes:
        status: the exit status of its script.
        audited: whether an optimizer took a step.
        optimizers: their summaries, as in `Report.optimizers`.
        information: remarks that limit nothing.
    """

    rank: int
    status: int
    audited: bool
    optimizers: tuple[OptimizerSummary, ...]
    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...]
    information: tuple[str, ...]
    limits: tuple[str, ...]
    faults: tuple[str, ...]


def named_ranks(ranks: Sequence[int]) -> str:
    """Return the ranks in words.

    >>> named_ranks([1]), named_ranks([1, 3, 4, 5])
    ('rank 1', 'ranks 1, 3 to 5')
    """
    ends: list[list[int]] = []
    for each in sorted(ranks):
        if ends and each == ends[-1][1] + 1:
            ends[-1][1] = each
        else:
            ends.append([each, each])
    words = [str(first) if first == last else f"{first} to {last}" for first, last in ends]
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(words)}"


def merged_findings(rank: int, found: list[Finding], others: Mapping[int, Sequence[Finding]]) -> list[Finding]:
    """Return the findings of all ranks: equal ones once, and those of some ranks with their ranks.

    `others` are those of other ranks. Findings are equal if their messages differ only in numbers.
    """
    if not others:
        return found
    alike: dict[Any, dict[int, Finding]] = {}
    for of_rank, findings in ((rank, found), *others.items()):
        seen = Counter[Any]()
        for each in findings:
            key = each._replace(since_update=0, message=NUMBERS.sub("0", each.message))
            seen[key] += 1
            alike.setdefault((key, seen[key]), {})[of_rank] = each
    merged = [_merged(of_ranks, everywhere=len(of_ranks) > len(others)) for of_ranks in alike.values()]
    return sorted(merged, key=lambda each: (ORDER[each.severity], each.since_update))


def _merged(of_ranks: dict[int, Finding], *, everywhere: bool) -> Finding:
    first = next(iter(of_ranks.values()))
    where = "" if everywhere else f" (on {named_ranks(list(of_ranks))})"
    since = min(each.since_update for each in of_ranks.values())
    return first._replace(since_update=since, message=first.message + where)


def merged_optimizers(rank: int, own: list[OptimizerSummary], others: Sequence[RankRecord]) -> list[OptimizerSummary]:
    """Return the summaries of all ranks: equal ones once, the others with their rank.

    Summaries are equal if they differ only in keep and its meaning. Every rank measures its own keep.
    """
    unlike = [
        each._replace(meaning=f"{each.meaning} (on rank {other.rank})")
        for other in others
        for nth, each in enumerate(other.optimizers)
        if nth >= len(own) or _comparable(own[nth]) != _comparable(each)
    ]
    if unlike and own:
        own = [each._replace(meaning=f"{each.meaning} (on rank {rank})") for each in own]
    return own + unlike


def _comparable(summary: OptimizerSummary) -> OptimizerSummary:
    return summary._replace(keep=None, meaning="")


def information_on(known: Sequence[str], others: Sequence[RankRecord]) -> list[str]:
    """Return what other ranks remark that limits nothing, without what is `known`; each remark with its ranks."""
    return _with_ranks((each.rank, remark) for each in others for remark in each.information if remark not in known)


def limits_on(known: Sequence[str], others: Sequence[RankRecord]) -> list[str]:
    """Return what limits the audit of other ranks, without what is `known`; each limit with its ranks."""
    limits = []
    for each in others:
        limits += [(each.rank, limit) for limit in each.limits if limit not in known]
        limits += [(each.rank, f"its script exited with status {each.status}")] if each.status else []
    return _with_ranks(limits)


def _with_ranks(remarks: Iterable[tuple[int, str]]) -> list[str]:
    by_remark: dict[str, list[int]] = {}
    for rank, remark in remarks:
        by_remark.setdefault(remark, []).append(rank)
    return [f"{named_ranks(ranks)}: {remark}" for remark, ranks in by_remark.items()]
