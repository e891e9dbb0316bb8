"""nnc's f32 form of a network that is measured in fewer bits: beside it in the tables, no peer."""

from engines.nnc import Nnc, load

__all__ = ["ENGINE", "load"]


class NncF32(Nnc):
    def case(self, case):
        return case.f32


ENGINE = NncF32("nnc-f32")
