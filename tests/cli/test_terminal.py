# SPDX-License-Identifier: Apache-2.0
"""Terminals, and what happens when there is none left. Standard library only."""

import json
import os
import pathlib
import pty
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import small_models
from cli_case import BINARY, TINY_TRAINING, CliTest, run
from tiny_model import PROMPT, QUICK, train

LONG_TRAINING = [*map(str, TINY_TRAINING[:-1]), "1000000"]
CALIBRATE = ["--prompts", "100000", "--batch", "1", "--steps", "2", "--device", "cpu"]


def screen(command, term, cwd):
    """What a program writes when both of its outputs are one terminal."""
    controller, terminal = pty.openpty()
    with subprocess.Popen([BINARY, *map(str, command)], stdin=subprocess.DEVNULL, stdout=terminal,
                          stderr=terminal, cwd=cwd, env=environment(TERM=term)) as process:
        os.close(terminal)
        text = b""
        while True:
            try:
                piece = os.read(controller, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            text += piece
        process.wait(timeout=600)
    os.close(controller)
    return process.returncode, text.decode()


def environment(**changes):
    variables = dict(os.environ)
    for name, value in changes.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value
    return variables


def lines_of(text):
    """The lines that stay to be read: what a carriage return and an erasure overwrite is gone."""
    return [line.split("\r\x1b[K")[-1] for line in text.replace("\r\n", "\n").split("\n")]


class TerminalTest(CliTest):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.model = pathlib.Path(holder.name) / "mini"
        train(cls.model)

    def generate(self, *arguments):
        return ["generate", *PROMPT, *QUICK, "--model", str(self.model), *map(str, arguments)]


class StatusTest(TerminalTest):
    def test_results_have_lines_of_their_own(self):
        code, text = screen(self.generate("-n", 2, "-o", "t.png"), "xterm", self.folder)
        self.assertEqual(code, 0, text)
        self.assertIn("[====", text)  # there was a bar
        results = [line for line in lines_of(text) if "t-000" in line]
        self.assertEqual(len(results), 2, text)
        for line in results:
            self.assertTrue(line.startswith("t-000"), (line, text))

    def test_terminals_without_escape_codes_get_none(self):
        for term in ("dumb", "", None):
            code, text = screen(self.generate("-o", "t.png"), term, self.folder)
            self.assertEqual(code, 0, text)
            self.assertNotIn("\x1b", text)
            self.assertIn("t.png", text)

    def test_a_long_run_says_what_it_takes(self):
        command = ["generate", *PROMPT, "--device", "cpu", "--model", str(self.model), "--steps",
                   "1000", "-n", "100000", "-o", str(self.folder / "t.png")]
        process = subprocess.Popen([BINARY, *command], stderr=subprocess.PIPE, text=True)
        with process:
            ready, _, _ = select.select([process.stderr], [], [], 120)
            line = process.stderr.readline() if ready else ""
            process.kill()
        self.assertRegex(line, r"^rtlynx: generate: about .* here, for 100000 pictures of 1000 steps")


class OutputTroubleTest(TerminalTest):
    def test_standard_error_may_be_full_closed_or_gone(self):
        command = [BINARY, *self.generate("--size", "32x32", "-o", self.folder / "t.png")]  # a note
        with open("/dev/full", "w") as full:
            self.assertEqual(subprocess.run(command, stderr=full, timeout=600).returncode, 0)
        closed = ["bash", "-c", '"$@" 2>&-', "bash", *command]
        self.assertEqual(subprocess.run(closed, timeout=600).returncode, 0)
        reader, writer = os.pipe()
        os.close(reader)
        self.assertEqual(subprocess.run(command, stderr=writer, timeout=600).returncode, 0)
        for trouble in (["--steps", "0"], ["--model", self.folder / "none"]):
            wrong = [BINARY, "generate", *PROMPT, *map(str, trouble)]
            self.assertIn(subprocess.run(wrong, stderr=writer, timeout=600).returncode, (1, 2))
        os.close(writer)

    def test_results_that_do_not_arrive_are_a_failure_and_lose_no_work(self):
        picture = self.folder / "t.png"
        for shell in ('"$@" > /dev/full', '"$@" >&-', '"$@" | true; exit ${PIPESTATUS[0]}'):
            command = [BINARY, *self.generate("-o", picture)]
            result = subprocess.run(["bash", "-c", shell, "bash", *command], timeout=600,
                                    stderr=subprocess.PIPE, text=True)
            self.assertEqual(result.returncode, 1, (shell, result.stderr))
            self.assertIn("standard output", result.stderr)
            self.assertTrue(picture.exists())
            picture.unlink()

    def test_help_that_does_not_arrive_is_a_failure(self):
        for arguments in (["--help"], ["generate", "--help"], ["--version"]):
            with open("/dev/full", "w") as full:
                result = subprocess.run([BINARY, *arguments], stdout=full, stderr=subprocess.PIPE,
                                        timeout=600)
            self.assertEqual(result.returncode, 1, arguments)

    def test_closed_descriptors_are_not_files(self):
        picture = self.folder / "t.png"
        command = [BINARY, *self.generate("--size", "32x32", "-o", picture)]
        subprocess.run(["bash", "-c", '"$@" 0<&- >&- 2>&-', "bash", *command], timeout=600)
        self.assertEqual(picture.read_bytes()[:4], b"\x89PNG")

    def test_a_file_size_limit_leaves_nothing_behind(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

        result = run(*self.generate("-o", self.folder / "t.png"), preexec_fn=limit)
        self.assert_refused(result, 1, "t.png")
        self.assertEqual(self.files(), [])


class HangUpTest(TerminalTest):
    def hang_up(self, command, started, number=signal.SIGHUP, **options):
        """Sends the signal once `started` exists; the return code and standard error."""
        options = {"stdout": subprocess.DEVNULL} | options
        with subprocess.Popen([BINARY, *map(str, command)], stderr=subprocess.PIPE, text=True,
                              **options) as process:
            deadline = time.monotonic() + 120
            while not started() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(number)
            _, message = process.communicate(timeout=300)
        return process.returncode, message

    def test_training_keeps_a_checkpoint(self):
        model = self.folder / "mini"
        code, message = self.hang_up(["train-mini", *LONG_TRAINING, "-o", model], model.is_dir)
        self.assertEqual(code, 0, message)
        self.assertTrue((model / "checkpoint.safetensors").is_file())
        self.assertTrue((model / "model_index.json").is_file())

    def test_calibration_keeps_its_statistics(self):
        output = self.folder / "c"
        start = time.monotonic()
        code, message = self.hang_up(["calibrate", "--model", self.model, *CALIBRATE, "-o", output],
                                     lambda: time.monotonic() > start + 5)
        self.assertEqual(code, 1)
        self.assertIn("the same command goes on from", message)
        self.assertEqual(self.files(), ["c.partial"])

    def end_drawing(self, number, *arguments):
        """The report of drawing that is ended once there is a picture, and its pictures."""
        model = self.folder / "model"
        small_models.make("pipeline_qwen_image", model)
        pictures = self.folder / f"signal{number}"
        pictures.mkdir()
        report = self.folder / "report.json"
        command = ["generate", "--model", model, "--device", "cpu", "--size", "40x24", "-n", "100000",
                   "--steps", "20", *PROMPT, "--json", "-o", pictures / "p.png", *arguments]
        with open(report, "w") as output:
            code, message = self.hang_up(command, lambda: any(pictures.glob("*.png")), number,
                                         stdout=output)
        shutil.rmtree(model)
        self.assertEqual(code, 1, message)
        drawn = sorted(str(path) for path in pictures.iterdir())
        self.assertIn(f"generate: interrupted; {len(drawn)} of 100000 pictures are written", message)
        self.assertLess(len(drawn), 100000)
        images = json.loads(report.read_text())["images"]
        self.assertEqual([image["path"] for image in images], drawn)
        return images

    def test_drawing_keeps_finished_pictures(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.end_drawing(number)

    def test_comparing_keeps_finished_pictures(self):
        for image in self.end_drawing(signal.SIGINT, "--compare"):
            self.assertLess(image["ssim"], 1)

    def test_a_lost_terminal_loses_no_work(self):
        model = self.folder / "mini"
        controller, terminal = pty.openpty()
        process = subprocess.Popen([BINARY, "train-mini", *LONG_TRAINING, "-o", str(model)],
                                   stdin=terminal, stdout=terminal, stderr=terminal,
                                   start_new_session=True, env=environment(TERM="xterm"),
                                   preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0))
        os.close(terminal)
        deadline = time.monotonic() + 120
        while not model.is_dir() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        os.close(controller)  # hangs up
        process.wait(timeout=300)
        self.assertGreaterEqual(process.returncode, 0)  # by itself, not by a signal
        self.assertTrue((model / "checkpoint.safetensors").is_file())
        self.assertTrue((model / "model_index.json").is_file())

    def test_nohup_keeps_training(self):
        model = self.folder / "mini"
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with subprocess.Popen([BINARY, "train-mini", *LONG_TRAINING, "-o", str(model)],
                              stdout=subprocess.DEVNULL, preexec_fn=ignore) as process:
            deadline = time.monotonic() + 120
            while not model.is_dir() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGHUP)
            time.sleep(2)
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=300)
        self.assertEqual(process.returncode, 0)


class ResumeTest(TerminalTest):
    COMMAND = ["evaluate", "--device", "cpu", "--steps", "2", "--prompts", "6", "--velocity-prompts",
               "2", "--calibration-prompts", "2", "--methods", "norm,joint,wanda"]

    def stages(self, *arguments):
        code, text = screen([*self.COMMAND, "--model", self.model, *arguments], "xterm", self.folder)
        self.assertEqual(code, 0, text)
        return {name for name in ("dense: pictures", "calibrate, pass") if name in text}

    def test_nothing_that_was_finished_is_drawn_again(self):
        output = self.folder / "e.json"
        kept = self.folder / "e.json.partial"
        work = self.folder / "e.json.partial.work"
        self.assertEqual(self.stages("-o", self.folder / "whole.json"),
                         {"dense: pictures", "calibrate, pass"})
        command = [BINARY, *self.COMMAND, "--model", str(self.model), "-o", str(output)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 120

            def is_ready():  # joint's sums are drawn
                return kept.exists() and "method joint" in kept.read_text()

            while not is_ready() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
        self.assertEqual(process.returncode, 1)
        names = sorted(path.name for path in work.iterdir())
        self.assertEqual(names[:2], ["dense pictures.safetensors", "dense trajectory.safetensors"])
        self.assertTrue(names[2].startswith("sums none "), names)
        self.assertEqual(self.stages("-o", output), set())
        self.assertEqual(output.read_bytes(), (self.folder / "whole.json").read_bytes())
        self.assertEqual(self.files(), ["e.json", "whole.json"])

    def test_the_noise_floor_is_reported(self):
        output = self.folder / "e.json"
        result = run(*self.COMMAND, "--model", self.model, "--noise-floor", "-o", output)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(output.read_text())
        self.assertEqual(report["noise_floor_batch"], 32)
        for method in report["methods"]:
            self.assertIn("noise_floor", method)
            self.assertTrue(0 <= method["noise_floor_equal"] <= 1)
        result = run("report", output, "-o", self.folder / "r.html")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("PSNR to itself", (self.folder / "r.html").read_text())


class EnvironmentTest(TerminalTest):
    def test_an_empty_variable_is_not_set(self):
        result = run("info", "--json", env=environment(RTLYNX_MODEL=""))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(json.loads(result.stdout)["model"]["folder"].endswith("lynx-mini"))


if __name__ == "__main__":
    unittest.main()
