"""A handler draws a random voucher code, so a run that is made again promises another voucher.

It looks right because every customer gets some code. But a run may be made many times before one is stored, and two
workers that handle the request and its copy each draw their own.

Mend: derive the code from the saga's id; or have a consumer draw it, whose reply is then a fact like any other.
"""

from __future__ import annotations

import random
import zlib
from typing import Annotated

from attrs import define

from mergers import any_true, fieldwise, first_of
from sagabus import Saga, handles, message, starts
from tests.simulation.broken.exhibit import Exhibit


@message("broken.draws_random.file-complaint")
class FileComplaint:
    complaint: str


@message("broken.draws_random.complaint-accepted")
class ComplaintAccepted:
    complaint: str


@message("broken.draws_random.voucher-granted")
class VoucherGranted:
    complaint: str
    code: int


@define
class Complaint:
    code: Annotated[int | None, first_of] = None
    accepted: Annotated[bool, any_true] = False


class DrawsCode(Saga[Complaint], key="complaint", merger=fieldwise(Complaint)):
    @starts
    def filed(self, m: FileComplaint) -> None:
        pass

    @handles
    def accepted(self, m: ComplaintAccepted) -> None:
        self.state.accepted = True
        self.state.code = random.randrange(2**52)

    def decide(self) -> None:
        if self.state.accepted:
            self.publish(VoucherGranted(self.id, self.state.code))
            self.complete()


class DerivesCode(DrawsCode, key="complaint", merger=fieldwise(Complaint)):
    @handles
    def accepted(self, m: ComplaintAccepted) -> None:
        self.state.accepted = True
        self.state.code = zlib.crc32(self.id.encode())


ARGUMENTS = {"start": [FileComplaint("7")], "messages": [ComplaintAccepted("7")], "resends": 1}
BROKEN = Exhibit("A handler that draws a random number", DrawsCode, ARGUMENTS, ("impure",), length=3)
MENDED = Exhibit("A handler that derives its number", DerivesCode, ARGUMENTS)
