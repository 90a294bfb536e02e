"""llama.cpp's HTTP server out of the package xllamacpp, under the options of llama-server that the checks use.

    python serve.py -m FILE --alias NAME --host 127.0.0.1 --port PORT [options]

Ends on SIGTERM.
"""

import argparse
import signal

import xllamacpp

# llama.cpp's numbers of the ways to make one vector of many.
POOLING = {"none": 0, "mean": 1}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("-c", "--context", type=int, default=4096, help="tokens of all slots together")
    parser.add_argument("-np", "--slots-in-all", type=int, default=1)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("-b", "--batch", type=int, help="tokens of a logical batch")
    parser.add_argument("-ub", "--physical-batch", type=int, help="tokens of a physical batch")
    parser.add_argument("--pooling", choices=POOLING)
    for switch in ("--jinja", "--ignore-eos", "--metrics", "--slots", "--embeddings"):
        parser.add_argument(switch, action="store_true")
    return parser.parse_args()


def main():
    given = arguments()
    options = xllamacpp.CommonParams()
    options.model.path = given.model
    options.model_alias = {given.alias}
    options.hostnames, options.port = [given.host], given.port
    options.n_ctx, options.n_parallel = given.context, given.slots_in_all
    options.cpuparams.n_threads = given.threads
    options.use_jinja = given.jinja
    options.sampling.ignore_eos = given.ignore_eos
    options.endpoint_metrics, options.endpoint_slots = given.metrics, given.slots
    options.embedding = given.embeddings
    if given.batch:
        options.n_batch = given.batch
    if given.physical_batch:
        options.n_ubatch = given.physical_batch
    if given.pooling:
        options.pooling_type = POOLING[given.pooling]

    server = xllamacpp.Server(options)
    print(f"llama.cpp on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Waited for by the main thread; the server's own threads inherit that they leave them alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
