"""Runs one part of the measurements under a time limit and adds a line of JSON about it to a file.

    record.py FILE PART LIMIT_SECONDS [--key NAME=VALUE ..] -- COMMAND ..

The line: part, key, command, rc (of the command; 124 if it was stopped), seconds, limit, value (what it printed to standard output:
JSON, or a list of the lines that are JSON, or nothing) and tail (the last lines of all else). What a command had printed when it was
stopped is kept. DEADLINE in the environment, in seconds since 1970, shortens limits, so that the parts together end in time.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

TAIL_LINES = 12


def value_of(text):
    """The JSON that a command printed, or its lines that are JSON."""
    try:
        return json.loads(text), ""
    except ValueError:
        values, rest = [], []
        for line in text.splitlines():
            try:
                values.append(json.loads(line)) if line.startswith("{") else rest.append(line)
            except ValueError:
                rest.append(line)
        return values or None, "\n".join(rest)


def stop(child):
    """Ends a command and everything that it started, and waits for it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
        except ProcessLookupError:
            pass
        try:
            child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            continue


def run(command, limit):
    """Exit status, seconds, standard output, standard error."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.time()
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            return 127, 0.0, "", f"{command[0]}: {error.strerror}"
        try:
            rc = child.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            rc = 124
        seconds = time.time() - began
        stop(child)  # also processes that remain after their command has ended
        out.seek(0), err.seek(0)
        return rc, seconds, *(stream.read().decode(errors="replace") for stream in (out, err))


def main():
    mark = sys.argv.index("--")
    (file, part, limit, *options), command = sys.argv[1:mark], sys.argv[mark + 1 :]
    key = {}
    for option in options:
        if option != "--key":
            name, value = option.split("=", 1)
            key[name] = int(value) if value.isdigit() else value
    limit = float(limit)
    if "DEADLINE" in os.environ:
        limit = min(limit, float(os.environ["DEADLINE"]) - time.time())
    named = " ".join([part, *map(str, key.values())])
    if limit < 1:
        rc, seconds, out, err = 124, 0.0, "", "not begun: no time was left"
    else:
        print(f"{time.strftime('%H:%M:%S')} {named}", file=sys.stderr, flush=True)
        rc, seconds, out, err = run(command, limit)
    value, rest = value_of(out) if out.strip() else (None, "")
    tail = "\n".join((rest + "\n" + err).strip().splitlines()[-TAIL_LINES:])
    line = {"part": part, "key": key, "command": command, "rc": rc, "seconds": round(seconds, 2), "limit": round(limit, 1)}
    with open(file, "a", encoding="utf-8") as records:
        records.write(json.dumps(line | {"value": value, "tail": tail}) + "\n")
    if rc:
        print(f"{named}: exit status {rc} after {seconds:.1f} s\n{tail}", file=sys.stderr, flush=True)
    return rc


if __name__ == "__main__":
    sys.exit(main())
