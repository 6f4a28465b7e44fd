"""Metrics wait for their server, arrive once, and are not repeated after a resume."""

from __future__ import annotations

from pathlib import Path

from mlflow.exceptions import MlflowException

from pipeline.tracking import Outbox, Run, Tracker


class Server(Run):
    """Takes points while it answers."""

    def __init__(self) -> None:
        self.answers, self.points = True, []

    def log_points(self, points):
        if self.answers:
            self.points += points
        return self.answers

    def steps(self):
        return [(key, step) for key, _, _, step in self.points]


def test_points_wait_on_disk_until_the_server_answers(tmp_path: Path) -> None:
    server, outbox = Server(), Outbox(tmp_path)
    server.answers = False
    outbox.add({"loss": 1.0, "nan": float("nan")}, 1)
    outbox.commit()
    assert outbox.deliver(server) == 1
    later = Outbox(tmp_path)  # another process
    later.add({"loss": 0.5}, 2)
    later.commit()
    server.answers = True
    assert later.deliver(server) == 0
    assert server.steps() == [("loss", 1), ("loss", 2)]
    assert later.deliver(server) == 0
    assert Outbox(tmp_path).deliver(server) == 0
    assert len(server.points) == 2, "once"


def test_a_resumed_run_repeats_no_point(tmp_path: Path) -> None:
    server, outbox = Server(), Outbox(tmp_path)
    for step in (1, 2):
        outbox.add({"loss": 1.0}, step)
    outbox.commit()
    outbox.deliver(server)
    outbox.add({"loss": 1.0}, 3)
    outbox.commit()  # killed before the checkpoint of step 3: it resumes at 2
    resumed = Outbox(tmp_path)
    resumed.forget_after(2)
    resumed.add({"loss": 1.0}, 3)
    resumed.commit()
    resumed.deliver(server)
    # The newest checkpoint was damaged: it resumes at 1, and comes by 2 and 3 again.
    older = Outbox(tmp_path)
    older.forget_after(1)
    for step in (2, 3, 4):
        older.add({"loss": 1.0}, step)
    older.commit()
    older.deliver(server)
    assert server.steps() == [("loss", step) for step in (1, 2, 3, 4)]
    steps = [point.step for point in Outbox(tmp_path).points]
    assert steps == [1, 2, 3, 4]


def test_a_point_sent_twice_is_one_row_in_mlflow(work: Path) -> None:
    tracker = Tracker(work)
    with tracker.run("train", "x", "f") as run:
        outbox = Outbox(work)
        outbox.add({"loss": 1.0}, 1)
        outbox.commit()
        outbox.deliver(run)
        outbox.mark.unlink()  # killed between sending and noting it
        again = Outbox(work)
        again.add({"loss": 0.5}, 2)
        again.deliver(run)
        history = tracker.client.get_metric_history(run.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]


def test_a_server_that_goes_away_does_not_stop_a_run(work: Path, monkeypatch, capsys) -> None:
    tracker = Tracker(work)

    def away(*_: object, **__: object) -> None:
        raise MlflowException("API request failed: connection refused")

    with tracker.run("train", "x", "f") as run:
        for request in ("log_batch", "set_terminated", "log_text"):
            monkeypatch.setattr(tracker.client, request, away)
        outbox = Outbox(work)
        outbox.add({"loss": 1.0}, 1)
        assert outbox.deliver(run) == 1
        run.log_text("x", "curves.svg")
    assert "MLflow does not answer" in capsys.readouterr().err
    monkeypatch.undo()
    with Tracker(work).run("train", "x", "f") as run:
        assert outbox.deliver(run) == 0


def test_damaged_files_cost_no_more_than_what_is_damaged(tmp_path: Path, capsys) -> None:
    outbox = Outbox(tmp_path)
    outbox.add({"loss": 1.0}, 1)
    outbox.commit()
    assert outbox.deliver(Run()) == 0
    with open(outbox.file, "ab") as file:
        file.write(b'{"key": "lo\xff')
    outbox.mark.write_text("[1]")
    again = Outbox(tmp_path)
    assert [(point.key, point.step) for point in again.points] == [("loss", 1)]
    assert len(again) == 1, "delivered once more"
    said = capsys.readouterr().err
    assert "1 damaged lines" in said
    assert "delivered.json is damaged" in said


def test_a_run_that_somebody_deletes_goes_on(work: Path) -> None:
    tracker = Tracker(work)
    with tracker.run("train", "x", "f") as run:
        tracker.client.delete_run(run.run_id)
        outbox = Outbox(work)
        outbox.add({"loss": 1.0}, 1)
        assert outbox.deliver(run) == 1, "kept"
