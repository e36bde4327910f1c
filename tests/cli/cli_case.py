# SPDX-License-Identifier: Apache-2.0
"""Running the command line in tests, and reading what it wrote."""

import json
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

BINARY = os.environ["RTLYNX_BINARY"]
VERSION = os.environ["RTLYNX_VERSION"]
QUICK = ["--steps", "2"]
PROMPT = ["-p", "a large red circle top left"]
TINY_TRAINING = ["--heads", 1, "--double-blocks", 1, "--single-blocks", 1, "--batch", 2, "--device",
                 "cpu", "--warm-up", 1, "--steps", 4]


def run(*arguments, cwd=None, **options):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
                          timeout=600, **options)


def png_chunks(data):
    position = 8
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position:position + 8])
        yield kind, data[position + 8:position + 8 + length]
        position += 12 + length


def png_texts(path):
    chunks = png_chunks(pathlib.Path(path).read_bytes())
    return dict(body.decode("latin-1").split("\0", 1) for kind, body in chunks if kind == b"tEXt")


def made_by(path):
    return json.loads(png_texts(path)["rtlynx"])


def png_size(path):
    return struct.unpack(">II", pathlib.Path(path).read_bytes()[16:24])


class CliTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def assert_refused(self, result, code, *words):
        self.assertEqual(result.returncode, code, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
