"""Which peers are here, how the others get here, and what was seen to be in their way."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A package that does some of the same work.

    Attributes:
        name: On PyPI.
        module: What is imported.
        install: Arguments to `pip install`, beside PyTorch as in `constraints.txt`.
    """

    name: str
    module: str
    install: str

    def here(self) -> bool:
        """Whether it can be imported; if not, a line on stderr says why and what to do."""
        try:
            importlib.import_module(self.module)
        except Exception as error:  # a peer that is broken by what it rests on raises anything
            print(f"{self.name} is left out: {error}; pip install {self.install}", file=sys.stderr)
            return False
        return True


# topopy, which landscaper needs, asks for numpy < 2, but runs with 2 as well: without its wish, numpy stays as it is.
LANDSCAPER = Peer(
    "landscaper",
    "landscaper",
    "'landscaper==1.3.1' 'topopy==1.0.4' 'nglpy==1.1.7' --no-deps, and: pip install gudhi matplotlib pandas treelib "
    "coloraide tqdm drawsvg networkx scikit-learn pyDOE 'ghalton<0.6.2'",
)
LOSS_LANDSCAPES = Peer("loss-landscapes", "loss_landscapes", "'loss-landscapes==3.0.6'")
GNS = Peer("gns-pytorch", "gns_pytorch", "'gns-pytorch==0.1.5'")
# It asks setuptools for its version through pkg_resources, which setuptools 82 has no more.
COCKPIT = Peer("cockpit-for-pytorch", "cockpit", "'cockpit-for-pytorch==1.0.2' 'setuptools<82'")


def present(peers: Sequence[Peer], asked: Sequence[str] | None) -> list[Peer]:
    """Give those that were asked for, or all, and are here."""
    return [peer for peer in peers if (asked is None or peer.name in asked) and peer.here()]
