"""Running the emulator in the foreground: scripts/gemini-emulator."""

import argparse
import signal
import sys
import threading
from types import FrameType

from emulator.faults import Faults
from emulator.server import Exchange


def main() -> int:
    """Serve until Ctrl-C, log to stderr, then print what was sold. Exit code 0; 1 when the emulator itself failed."""
    from gemini_emulator import GeminiEmulator

    options = _options()
    faults = Faults(
        probability=options.faults,
        job_seconds=options.job_seconds,
        enqueued_token_cap=options.enqueued_token_cap,
        items_per_minute=options.items_per_minute,
        list_lag_s=options.list_lag,
        poison=set(options.poison),
        stuck=options.stuck,
    )
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, ask_to_stop)
    signal.signal(signal.SIGTERM, ask_to_stop)
    on_request = None if options.quiet else _log
    emulator = GeminiEmulator(options.key, options.seed, faults, port=options.port, on_request=on_request)
    with emulator:
        print("# A Gemini API that costs nothing. In another terminal:")
        print(f"export CODECHUNK_EMBEDDING__BASE_URL={emulator.url}")
        print(f"export CODECHUNK_GEMINI_API_KEY={emulator.key}")
        print(f"# the ledger: curl {emulator.url}/__emulator__/ledger    to end: Ctrl-C", flush=True)
        # With a limit, because some systems deliver signals to Python only between waits.
        while not stop.wait(0.5):
            pass
        ledger = emulator.ledger()
    repeated = ledger["more_than_once"]
    print(f"texts sold {ledger['texts']}, sold more than once {len(repeated)}, vectors sold {ledger['sold']}")
    print(f"jobs {len(ledger['jobs'])}, still live {len(ledger['live'])}, requests {sum(ledger['requests'].values())}")
    return 1 if ledger["crashes"] else 0


def _log(exchange: Exchange) -> None:
    status = exchange.status or "no reply"
    print(f"{exchange.kind:<14}{exchange.method:<7}{exchange.path}  {status}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gemini-emulator", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one")
    parser.add_argument("--key", default="test-key", help="the only API key it takes")
    parser.add_argument("--seed", type=int, default=0, help="of the faults that chance draws")
    parser.add_argument("--job-seconds", type=float, default=0.0, metavar="S", help="how long a batch job takes")
    parser.add_argument("--faults", type=float, default=0.0, metavar="P", help="probability of a fault on each request")
    parser.add_argument("--enqueued-token-cap", type=int, metavar="N", help="tokens in live jobs; more is a 429")
    parser.add_argument("--items-per-minute", type=int, metavar="N", help="texts embedded directly; more is a 429")
    parser.add_argument("--list-lag", type=float, default=0.0, metavar="S", help="new jobs are listed this much later")
    parser.add_argument("--poison", action="append", default=[], metavar="WORD", help="texts with it are rejected")
    parser.add_argument("--stuck", action="store_true", help="jobs never end")
    parser.add_argument("--quiet", action="store_true", help="no line for each request")
    return parser.parse_args()
