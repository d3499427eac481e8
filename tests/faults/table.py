"""The table of injected faults: runs. The faults of input and sweeps are in the two other tables."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A row of the table.

    Attributes:
        name: the name of the fault.
        injected: what the test injects.
        times: the minimum number of injections; the test counts them.
        lost: what is lost.
        test: the test function, in tests/faults/ or tests/test_resuming.py.
    """

    name: str
    injected: str
    times: int
    lost: str
    test: str


NOTHING = "nothing"
EVERY_CALL = "test_a_run_survives_each_call_that_fails_or_is_its_last"
TWO_WRITERS = "test_a_second_writer_exits_2_until_the_first_is_killed"
NOT_WRITTEN = "rows that were not on the disk yet; the same command retrains them, bit for bit"
RETRAINED = "the run is retrained from the start"

FAULTS = [
    Fault("SIGKILL while training", "SIGKILL at random moments, ten per mode, on tasks with own generators, dropout, "
          "batch statistics and batch sizes", 10, NOT_WRITTEN,
          "test_a_killed_run_ends_in_the_rows_of_an_undisturbed_one"),
    Fault("interruption at every step", "a checkpoint after each step, for each mode on nine tasks, then a resumption",
          1170, NOTHING, "test_training_resumes_exactly_after_every_step"),
    Fault("out of memory", "RLIMIT_AS, and a task that doubles its memory at each step", 2, NOTHING,
          "test_a_task_without_memory_fails_its_run_and_keeps_rows"),
    Fault("flipped bit in a checkpoint", "200 bits at random positions of a checkpoint", 200, NOTHING,
          "test_no_flipped_bit_of_a_checkpoint_is_loaded"),
    Fault("truncated checkpoint", "a checkpoint cut off after each of its first 100 bytes, then at every 997th byte",
          110, NOTHING, "test_a_checkpoint_cut_off_anywhere_is_not_loaded"),
    Fault("damaged newest checkpoint", "the newest checkpoint lacks its last byte", 1,
          "nothing; the steps since the previous checkpoint are retrained",
          "test_a_damaged_newest_checkpoint_falls_back_to_the_last"),
    Fault("no usable checkpoint", "all checkpoints are empty, arbitrary text, or in a newer format", 1, RETRAINED,
          "test_without_a_sound_checkpoint_the_run_starts_anew"),
    Fault("log shorter than the checkpoint", "40 rows are left, but the checkpoint needs 90", 1, RETRAINED,
          "test_a_checkpoint_beyond_the_rows_that_are_left_is_not_used"),
    Fault("rows after the checkpoint", "a wrong row and a partial row follow those of the checkpoint", 1, NOTHING,
          "test_rows_beyond_the_checkpoint_are_cut_off"),
    Fault("changed row before the checkpoint", "another loss in the sixth of 90 rows", 1, RETRAINED,
          "test_changed_rows_before_a_checkpoint_rule_it_out"),
    Fault("changed evaluation before the checkpoint", "another value in the first of four evaluations, or one missing",
          2, RETRAINED, "test_changed_evaluations_before_a_checkpoint_rule_it_out"),
    Fault("evaluations after the checkpoint", "a wrong evaluation and a partial one follow those of the checkpoint", 1,
          NOTHING, "test_evaluations_beyond_the_checkpoint_are_cut_off"),
    Fault("temporarily unreadable checkpoint", "no memory, or no file handle, while a checkpoint is read", 2, NOTHING,
          "test_an_unreadable_checkpoint_is_kept_with_all_rows"),
    Fault("checkpoint of another version or run", "a checkpoint from torch 1.0, or from another run", 1, RETRAINED,
          "test_a_checkpoint_of_another_version_or_run_is_not_used"),
    Fault("hostile checkpoint", "pickles that run a command, with a valid hash", 2, RETRAINED,
          "test_a_checkpoint_from_elsewhere_runs_no_code"),
    Fault("disk full at a write", "the N-th write fails with ENOSPC, for each N; also, the N-th write is cut short "
          "and all later ones fail", 20, NOTHING, EVERY_CALL),
    Fault("SIGKILL in a write", "SIGKILL after half the bytes of the N-th write", 10, NOT_WRITTEN, EVERY_CALL),
    Fault("failed open or mkdir", "the N-th open fails with EIO, the N-th mkdir with ENOSPC", 20, NOTHING, EVERY_CALL),
    Fault("failed fsync, rename or truncate", "the N-th fsync, rename or ftruncate fails with EIO", 20, NOTHING,
          EVERY_CALL),
    Fault("SIGKILL between two calls", "SIGKILL before the N-th fsync, rename or ftruncate", 20, NOT_WRITTEN,
          EVERY_CALL),
    Fault("fault while retraining", "--fresh over finished runs: the disk is full from the N-th write on, or SIGKILL "
          "before the N-th rename or ftruncate", 20, "the rows that --fresh discards", EVERY_CALL),
    Fault("fault at a checkpoint", "with a checkpoint after each row, the N-th and all later writes, the N-th fsync "
          "or the N-th rename fail", 30, NOTHING, EVERY_CALL),
    Fault("SIGKILL at a checkpoint", "with a checkpoint after each row, SIGKILL in the N-th write, or before the N-th "
          "fsync or rename", 30, NOT_WRITTEN, EVERY_CALL),
    Fault("fault at an evaluation", "with a checkpoint after each row and an evaluation after every second one, the "
          "N-th and all later writes, the N-th open, the N-th fsync or the N-th ftruncate fail", 40, NOTHING,
          EVERY_CALL),
    Fault("SIGKILL at an evaluation", "with a checkpoint after each row and an evaluation after every second one, "
          "SIGKILL in the N-th write, or before the N-th fsync or ftruncate", 30, NOT_WRITTEN, EVERY_CALL),
    Fault("file size limit", "RLIMIT_FSIZE of 90, 180, 270, … bytes: a short write, then EFBIG", 10, NOTHING,
          EVERY_CALL),
    Fault("truncated log", "metrics.jsonl cut off after each byte, also within a UTF-8 character", 500,
          "the partial line", "test_a_torn_log_keeps_all_whole_rows"),
    Fault("flipped bit in the log", "each bit of metrics.jsonl, one at a time", 1500,
          "the damaged line, which is reported", "test_no_flipped_bit_of_a_log_passes_for_a_whole_run"),
    Fault("truncated evaluations", "evaluations.jsonl cut off after each byte", 200, "the partial line",
          "test_torn_evaluations_keep_all_whole_ones"),
    Fault("flipped bit in the evaluations", "each bit of evaluations.jsonl, one at a time", 1500,
          "the damaged line, which is reported", "test_no_flipped_bit_of_evaluations_passes_for_whole_ones"),
    Fault("random bytes as evaluations", "random bytes, and lines of random JSON", 100, NOTHING,
          "test_no_bytes_make_reading_evaluations_fail"),
    Fault("lost block in the log", "zeros over 1 to 64 bytes anywhere in metrics.jsonl", 100,
          "the damaged lines, which are reported", "test_a_block_of_zeros_costs_the_lines_it_touches_alone"),
    Fault("random bytes as a log", "random bytes, and lines of random JSON", 100, NOTHING,
          "test_no_bytes_make_reading_a_log_fail"),
    Fault("random bytes as a record", "random bytes, and random JSON, instead of run.json", 100, NOTHING,
          "test_any_bytes_for_a_record_fail_in_one_line_at_most"),
    Fault("flipped bit in a record", "two bits of each byte of run.json, one at a time", 900, NOTHING,
          "test_no_flipped_bit_of_a_record_is_a_traceback"),
    Fault("symbolic link instead of a file", "run.json or metrics.jsonl is a link to another file", 2, NOTHING,
          "test_a_link_in_place_of_a_file_is_never_followed"),
    Fault("pipe instead of a file", "run.json or metrics.jsonl is a FIFO", 2, NOTHING,
          "test_a_pipe_in_place_of_a_file_is_refused_at_once"),
    Fault("file instead of a folder", "runs/, an experiment's folder or a run's folder is a file", 3, NOTHING,
          "test_a_file_where_a_folder_should_be_is_told_in_one_line"),
    Fault("second writer", "the same command while a run trains", 1, NOTHING, TWO_WRITERS),
    Fault("concurrent writers in one folder", "eight processes with one seed each in one folder, four times", 32,
          NOTHING, "test_runs_started_at_once_in_one_folder_are_all_seen"),
    Fault("killed owner of a lock", "SIGKILL to the training process, then the same command at once", 1, NOT_WRITTEN,
          TWO_WRITERS),
    Fault("forked child with the lock", "a task that leaves a child process behind, and SIGKILL to the parent", 1,
          NOT_WRITTEN, "test_a_child_left_by_a_killed_process_keeps_no_lock"),
    Fault("readers of the lock", "a process that reads the status continuously while a writer starts", 50, NOTHING,
          "test_a_reader_of_the_status_never_blocks_a_writer"),
    Fault("user code ends the process", "os._exit(0), os.abort(), a null pointer or SIGKILL in a task", 4, NOT_WRITTEN,
          "test_a_task_that_ends_the_process_is_never_counted_as_done"),
    Fault("unwritable final record", "the final run.json cannot be written while a run fails", 1, NOTHING,
          "test_an_unwritable_record_does_not_hide_what_ended_the_run"),
    Fault("odd mode names", "300 characters, slashes, dots and control characters", 100, NOTHING,
          "test_a_mode_of_any_name_gets_a_short_visible_folder"),
]  # fmt: skip

_BY_NAME = {fault.name: fault for fault in FAULTS}


def injected(name: str, times: int) -> None:
    """Check that a fault was injected as often as the table states."""
    assert times >= _BY_NAME[name].times, f"{name}: injected {times} times; the table states {_BY_NAME[name].times}"
