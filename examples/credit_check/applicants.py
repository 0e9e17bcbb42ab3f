"""The applicants: a thousand made-up people in `applicants.csv`, and as many more as are asked for."""

from __future__ import annotations

import csv
from importlib import resources

from attrs import frozen

from examples.credit_check.messages import CheckCredit


@frozen
class Applicant:
    """Somebody who wants credit.

    Attributes:
        customer: the bank's number for them, unique.
        name: given name and family name.
    """

    customer: str
    name: str

    def check(self) -> CheckCredit:
        """Return the message that asks for a decision on them."""
        return CheckCredit(customer=self.customer, name=self.name)


def applicants(count: int) -> list[Applicant]:
    """Return the first *count* applicants: those of the file, then others who borrow their names."""
    text = resources.files(__package__).joinpath("applicants.csv").read_text("utf-8")
    known = [Applicant(row["customer"], row["name"]) for row in csv.DictReader(text.splitlines())]
    return known[:count] + [_further(known, number) for number in range(len(known), count)]


def _further(known: list[Applicant], number: int) -> Applicant:
    """Return applicant number *number*, who is not in the file: somebody's given name, somebody else's family name."""
    given = known[number % len(known)].name.partition(" ")[0]
    family = known[(number // len(known) * 31 + number * 7) % len(known)].name.partition(" ")[2]
    return Applicant(f"C{number + 1:06}", f"{given} {family}")
