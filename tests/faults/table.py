"""The table of faults: what is injected, how many times at least, what is lost, and the test that does it."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A row of the table."""

    name: str
    injected: str
    times: int  # at least; the test counts
    lost: str
    test: str  # a function in tests/faults/


NOTHING = "nothing"
ONE_BY_ONE = "test_a_run_survives_each_call_that_fails_or_is_its_last"
TWO_WRITERS = "test_a_second_writer_exits_2_until_the_first_is_killed"
NOT_WRITTEN = "rows that were not on the disk yet; the same command trains them again, bit for bit"

FAULTS = [
    Fault("SIGKILL while training", "SIGKILL at seeded moments, ten for each mode, on tasks with generators, "
          "dropout, statistics and sizes of their own", 10, NOT_WRITTEN,
          "test_a_killed_run_ends_in_the_rows_of_an_undisturbed_one"),
    Fault("interrupted at each step", "a checkpoint after each step of each mode on each of nine tasks, gone on from",
          1170, NOTHING, "test_training_resumes_exactly_after_every_step"),
    Fault("no memory", "RLIMIT_AS, and a task that takes twice as much at each step", 2, NOTHING,
          "test_a_task_without_memory_fails_its_run_and_keeps_rows"),
    Fault("flipped bit in a checkpoint", "200 bits at random places of a checkpoint", 200, NOTHING,
          "test_no_flipped_bit_of_a_checkpoint_is_loaded"),
    Fault("torn checkpoint", "a checkpoint cut off after each of its first hundred bytes, and every thousandth", 110,
          NOTHING, "test_a_checkpoint_cut_off_anywhere_is_not_loaded"),
    Fault("damaged newest checkpoint", "the last byte of the newest checkpoint is missing", 1,
          "the steps between the two checkpoints are trained again",
          "test_a_damaged_newest_checkpoint_falls_back_to_the_last"),
    Fault("no checkpoint that checks out", "all checkpoints empty, some text, or of a newer format", 1,
          "the run is trained again from its start", "test_without_a_sound_checkpoint_the_run_starts_anew"),
    Fault("log shorter than the checkpoint", "40 rows left where the checkpoint needs 90", 1,
          "the run is trained again from its start", "test_a_checkpoint_beyond_the_rows_that_are_left_is_not_used"),
    Fault("rows beyond the checkpoint", "a false row and a torn one after those of the checkpoint", 1, NOTHING,
          "test_rows_beyond_the_checkpoint_are_cut_off"),
    Fault("changed row before the checkpoint", "another loss in the sixth of 90 rows", 1,
          "the run is trained again from its start",
          "test_changed_rows_before_a_checkpoint_rule_it_out"),
    Fault("checkpoint that cannot be read for now", "no memory, and no file handle left, while it is read", 2, NOTHING,
          "test_an_unreadable_checkpoint_is_kept_with_all_rows"),
    Fault("checkpoint of another version or run", "a checkpoint that says it is of torch 1.0, or of another run", 1,
          "the run is trained again from its start", "test_a_checkpoint_of_another_version_or_run_is_not_used"),
    Fault("hostile checkpoint", "pickles that run a command, with a right hash", 2,
          "the run is trained again from its start", "test_a_checkpoint_from_elsewhere_runs_no_code"),
    Fault("disk full at a write", "the N-th write fails with ENOSPC, N = 1, 2, …; then every one from the N-th on, "
          "cut short first", 20, NOTHING, ONE_BY_ONE),
    Fault("SIGKILL in a write", "SIGKILL after half the bytes of the N-th write", 10, NOT_WRITTEN,
          ONE_BY_ONE),
    Fault("a file cannot be opened or made", "the N-th open fails with EIO, the N-th mkdir with ENOSPC", 20, NOTHING,
          ONE_BY_ONE),
    Fault("the disk does not take it", "the N-th fsync, rename and ftruncate fails with EIO", 20, NOTHING,
          ONE_BY_ONE),
    Fault("SIGKILL between two calls", "SIGKILL before the N-th fsync, rename and ftruncate", 20, NOT_WRITTEN,
          ONE_BY_ONE),
    Fault("a fault while training again", "--fresh over runs that are done, the disk full from the N-th write on, and "
          "SIGKILL before the N-th rename and ftruncate", 20, "the rows that --fresh gave up",
          ONE_BY_ONE),
    Fault("a fault at a checkpoint", "a checkpoint after each row; the N-th write and all after it, the N-th fsync, "
          "the N-th rename fail", 30, NOTHING, ONE_BY_ONE),
    Fault("SIGKILL at a checkpoint", "a checkpoint after each row; SIGKILL in the N-th write, before the N-th fsync, "
          "the N-th rename", 30, NOT_WRITTEN, ONE_BY_ONE),
    Fault("files limited in size", "RLIMIT_FSIZE of 90, 180, 270, … bytes: a short write, then EFBIG", 10, NOTHING,
          ONE_BY_ONE),
    Fault("torn log", "metrics.jsonl cut off after each of its bytes, also within a character of UTF-8", 500,
          "the torn line", "test_a_torn_log_keeps_all_whole_rows"),
    Fault("flipped bit in the log", "each bit of metrics.jsonl, one at a time", 1500,
          "the damaged line, which is named", "test_no_flipped_bit_of_a_log_passes_for_a_whole_run"),
    Fault("lost block in the log", "zeros over 1 to 64 bytes anywhere in metrics.jsonl", 100,
          "the damaged lines, which are named", "test_a_block_of_zeros_costs_the_lines_it_touches_alone"),
    Fault("any bytes for a log", "random bytes, and lines of random JSON", 100, NOTHING,
          "test_no_bytes_make_reading_a_log_fail"),
    Fault("any bytes for a record", "random bytes, and random JSON, in place of run.json", 100, NOTHING,
          "test_any_bytes_for_a_record_fail_in_one_line_at_most"),
    Fault("flipped bit in a record", "two bits of each byte of run.json, one at a time", 900, NOTHING,
          "test_no_flipped_bit_of_a_record_is_a_traceback"),
    Fault("symbolic link for a file", "run.json or metrics.jsonl is a link to another file", 2, NOTHING,
          "test_a_link_in_place_of_a_file_is_never_followed"),
    Fault("pipe for a file", "a FIFO in place of run.json and metrics.jsonl", 2, NOTHING,
          "test_a_pipe_in_place_of_a_file_is_refused_at_once"),
    Fault("file for a folder", "a file in place of runs/, of an experiment's folder and of a run's", 3, NOTHING,
          "test_a_file_where_a_folder_should_be_is_told_in_one_line"),
    Fault("second writer", "the same command while a run trains", 1, NOTHING,
          TWO_WRITERS),
    Fault("writers of one folder at once", "eight real processes, one seed each, into one folder, four times over", 32,
          NOTHING, "test_runs_started_at_once_in_one_folder_are_all_seen"),
    Fault("killed owner of a lock", "kill −9 of the process that trains, then the same command at once", 1,
          NOT_WRITTEN, TWO_WRITERS),
    Fault("forked child with the lock", "a task that leaves a child process behind, and kill −9 of the parent", 1,
          NOT_WRITTEN, "test_a_child_left_by_a_killed_process_keeps_no_lock"),
    Fault("readers of the lock", "a process that asks for the status without pause while a writer starts", 50, NOTHING,
          "test_a_reader_of_the_status_never_blocks_a_writer"),
    Fault("user's code ends the process", "os._exit(0), os.abort(), a null pointer and SIGKILL in a task", 4,
          NOT_WRITTEN, "test_a_task_that_ends_the_process_is_never_counted_as_done"),
    Fault("record lost at the end", "the final run.json cannot be written while a run fails", 1, NOTHING,
          "test_an_unwritable_record_does_not_hide_what_ended_the_run"),
    Fault("odd names", "modes with names of 300 characters, of slashes, dots and control characters", 100, NOTHING,
          "test_a_mode_of_any_name_gets_a_short_visible_folder"),
]  # fmt: skip

_BY_NAME = {fault.name: fault for fault in FAULTS}


def injected(name: str, times: int) -> None:
    """Hold how often a fault was injected against what the table declares."""
    assert times >= _BY_NAME[name].times, f"{name}: injected {times} times; the table declares {_BY_NAME[name].times}"
