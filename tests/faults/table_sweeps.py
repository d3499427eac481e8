"""The table of injected faults: sweeps."""

from __future__ import annotations

from tests.faults.table import NOTHING, Fault

CELLS = "running cells; the same command retrains them, bit for bit"
LOST_CELL = "the runs of the cell that always ends its process, which are reported"
FAULTS = [
    Fault("SIGKILL during a sweep", "SIGKILL to the process that trains a cell, then the same command", 1, CELLS,
          "test_a_killed_sweep_resumes_to_the_undisturbed_results"),
    Fault("second writer of a sweep", "the same command while a sweep trains", 1, NOTHING,
          "test_a_killed_sweep_resumes_to_the_undisturbed_results"),
    Fault("flipped bit in results", "each bit of a line of results.jsonl, one at a time", 2000,
          "the runs of that line, which is reported and retrained",
          "test_no_flipped_bit_of_results_passes_for_a_block"),
    Fault("truncated results", "results.jsonl cut off after each byte of its last line", 250, "the partial line",
          "test_torn_results_keep_whole_blocks_and_are_mended"),
    Fault("random bytes as results", "random bytes, and lines of random JSON", 100, NOTHING,
          "test_no_bytes_make_reading_results_fail"),
    Fault("any JSON in a sweep's record", "random bytes, and any JSON for any key of sweep.json", 200, NOTHING,
          "test_an_edited_sweep_record_is_read_or_refused_in_a_line"),
    Fault("disk full in a sweep", "each write to results.jsonl is cut short and fails with ENOSPC", 4, CELLS,
          "test_a_full_disk_leaves_whole_blocks_and_the_sweep_goes_on"),
    Fault("killed worker of a sweep", "SIGKILL in a training process: once for one cell, always for another", 3,
          LOST_CELL, "test_a_killed_worker_costs_its_cell_alone"),
    Fault("Ctrl-C with workers", "SIGINT to all processes of a sweep at once", 1, CELLS,
          "test_ctrl_c_ends_all_workers_silently"),
    Fault("killed parent of workers", "SIGKILL to the process that started a worker", 1, CELLS,
          "test_a_worker_ends_with_its_parent"),
    Fault("killed process of a Dask worker", "SIGKILL in the process that trains a cell on a Dask cluster, at every "
          "try", 2, LOST_CELL, "test_a_killed_process_of_a_dask_worker_costs_its_cell_alone"),
    Fault("Ctrl-C with Dask", "SIGINT to a sweep that trains on a Dask cluster", 1, CELLS,
          "test_ctrl_c_stops_a_cluster_and_keeps_whole_blocks"),
    Fault("killed Dask worker", "SIGKILL to a Dask worker that trains a cell", 1, NOTHING,
          "test_the_cells_of_a_killed_dask_worker_are_trained_elsewhere"),
]  # fmt: skip
