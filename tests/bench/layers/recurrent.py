"""LSTM, GRU and RNN: one step, sentences, sounds."""

from layers.model import Row

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def rows():
    for op, steps, batch, inputs, hidden, options in [
        ("LSTM", 1, 1, 256, 256, {}),
        ("LSTM", 1, 1, 128, 128, {}),
        ("LSTM", 50, 1, 64, 64, {}),
        ("LSTM", 50, 1, 256, 256, {}),
        ("LSTM", 50, 1, 512, 512, {}),
        ("LSTM", 50, 8, 128, 128, {}),
        ("LSTM", 50, 1, 128, 128, {"direction": "bidirectional"}),
        ("LSTM", 50, 1, 37, 101, {}),
        ("LSTM", 200, 1, 128, 128, {}),
        ("LSTM", 200, 1, 96, 256, {"direction": "bidirectional"}),
        ("GRU", 1, 1, 256, 256, {"linear_before_reset": 1}),
        ("GRU", 50, 1, 64, 64, {"linear_before_reset": 1}),
        ("GRU", 50, 1, 256, 256, {"linear_before_reset": 1}),
        ("GRU", 50, 1, 256, 256, {}),
        ("GRU", 50, 8, 128, 128, {"linear_before_reset": 1}),
        ("GRU", 50, 1, 256, 256, {"linear_before_reset": 1, "direction": "bidirectional"}),
        ("GRU", 200, 1, 128, 128, {"linear_before_reset": 1}),
        ("GRU", 200, 1, 37, 101, {"linear_before_reset": 1}),
        ("RNN", 1, 1, 256, 256, {}),
        ("RNN", 50, 1, 64, 64, {}),
        ("RNN", 50, 1, 256, 256, {}),
        ("RNN", 50, 8, 128, 128, {}),
        ("RNN", 50, 1, 256, 256, {"direction": "bidirectional"}),
        ("RNN", 200, 1, 128, 128, {}),
    ]:
        told = [f"{steps} steps {inputs} → {hidden}"]
        told += [f"batch {batch}"] if batch > 1 else []
        told += ["bidirectional"] if "direction" in options else []
        told += ["reset before"] if op == "GRU" and "linear_before_reset" not in options else []
        yield Row(op, ", ".join(told), recurrent(op, steps, batch, inputs, hidden, options))


def recurrent(op, steps, batch, inputs, hidden, options):
    ways = 2 if "direction" in options else 1
    gates = GATES[op] * hidden

    def make(g):
        x = g.input(steps, batch, inputs)
        w, r = g.weights(ways, gates, inputs, sums=inputs), g.weights(ways, gates, hidden, sums=hidden)
        results = g.node(
            op, x, w, r, g.weights(ways, 2 * gates), hidden_size=hidden, results=3 if op == "LSTM" else 2, **options
        )
        return results[0]

    return make
