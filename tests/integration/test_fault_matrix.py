"""Which test shows what: every row of the fault matrix, and every way in which others lost chunks or money.

A row names the tests that would fail if codechunk did not stand the fault. The tests below hold the tables together
with the suite: a test that is renamed, removed, never collected or always skipped is missed here.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

# Rows 1 to 36 of reliability.md, 4. `file::test`, without `test_` and `.py`; several tests share a row.
MATRIX = {
    1: "kill -9 during clone or fetch:"
    " git_attacks::kill_9_of_codechunk_in_the_middle_of_a_fetch_is_repaired_by_the_next_run"
    " git::what_a_killed_process_left_behind_is_removed_at_the_next_open",
    2: "kill -9 during parse: resume::killed_while_chunking_it_goes_on_from_the_last_fifty"
    " resume::killed_again_and_again_at_random_moments_it_ends_the_same",
    3: "kill -9 in the intent: crash_points::a_kill_at_any_point_of_a_waiting_index_changes_nothing_in_the_end",
    4: "kill -9 between intent and create:"
    " crash_points::a_kill_at_any_point_of_a_waiting_index_changes_nothing_in_the_end"
    " batch::a_creation_that_never_arrived_is_repeated_only_after_the_grace_time",
    5: "kill -9 between create and record:"
    " crash_points::a_kill_at_any_point_of_a_waiting_index_changes_nothing_in_the_end"
    " batch::a_job_whose_creation_was_never_confirmed_is_found_by_its_name",
    6: "kill -9 after the record: crash_points::a_kill_at_any_point_of_a_worker_changes_nothing_in_the_end",
    7: "kill -9 after the download: crash_points::a_kill_at_any_point_of_a_waiting_index_changes_nothing_in_the_end"
    " fault_results::a_result_that_was_downloaded_before_a_kill_is_not_fetched_again",
    8: "kill -9 while vectors are saved:"
    " crash_points::a_kill_at_any_point_changes_nothing_when_rows_fail_and_a_job_fails_and_answers_are_lost"
    " fault_results::a_kill_between_the_vectors_and_the_end_does_not_make_a_good_job_a_failed_one",
    9: "kill -9 in the upsert: resume::killed_while_storing_it_ends_the_same",
    10: "kill -9 before the mark: crash_points::a_kill_at_any_point_of_a_worker_changes_nothing_in_the_end"
    " resume::killed_while_storing_it_ends_the_same",
    11: "Chroma's files half written: vectors::a_file_cut_short_is_seen_and_does_not_crash_the_process"
    " cli_index::a_damaged_vector_index_is_rebuilt_with_a_sentence_and_no_embedding",
    12: "kill -9 in the switch of generations:"
    " crash_points::a_kill_at_any_point_of_a_waiting_index_changes_nothing_in_the_end"
    " state::readers_stay_on_the_published_generation_until_the_switch"
    " state::an_abandoned_generation_never_shows_and_is_swept",
    13: "kill -9 in a migration:"
    " fault_state::a_kill_at_any_statement_of_a_migration_leaves_the_old_schema_or_the_new_one",
    14: "state database, full disk:"
    " fault_state::after_the_disk_is_full_nothing_is_sent_and_afterwards_nothing_is_bought_twice"
    " state::the_disk_being_full_is_a_sentence",
    15: "vector index, full disk: cli_places::a_full_disk_is_a_sentence_and_the_run_goes_on_when_there_is_space",
    16: "clone, full disk: git_attacks::a_full_disk_is_one_sentence_and_leaves_nothing"
    " git_attacks::too_little_space_is_said_before_anything_is_fetched",
    17: "database locked: fault_state::a_database_that_stays_locked_is_a_sentence_and_sends_nothing"
    " fault_state::a_worker_outlives_a_database_that_is_locked_for_a_while"
    " heartbeat::a_database_that_is_locked_for_a_while_stops_no_heart",
    18: "database read-only or replaced: state::a_read_only_database_and_garbage_are_a_sentence"
    " state::a_database_of_a_newer_program_is_refused",
    19: "damaged page: state::a_damaged_page_is_found_by_the_quick_check"
    " cli_index::a_damaged_state_database_is_a_sentence doctor::a_damaged_database_is_a_finding_and_not_the_end",
    20: "cut before the request: batch::a_refused_connection_made_no_job_and_needs_no_grace_time"
    " fault_users::without_a_network_a_sentence_says_so_and_nothing_is_lost",
    21: "cut after the request: batch::a_job_whose_creation_was_never_confirmed_is_found_by_its_name"
    " batch::a_list_that_fails_proves_nothing_and_nothing_is_created"
    " chaos::faults_and_kills_lose_nothing_and_buy_nothing_twice",
    22: "cut in the result: fault_results::a_cut_download_is_repeated_and_nothing_of_it_is_taken",
    23: "429, 5xx, slow answers: batch::a_429_that_names_a_time_makes_every_submission_wait_that_long"
    " batch::a_429_without_a_time_doubles_the_wait_up_to_the_maximum"
    " batch::no_5xx_and_no_hang_up_is_ever_final_at_submission"
    " fault_results::an_answer_that_drips_is_given_up_after_a_total_time_and_asked_for_again"
    " direct::a_429_makes_every_thread_wait_as_long_as_asked",
    24: "401, 403, quota: batch::a_refused_key_stops_and_the_batch_job_stays_as_it_is"
    " fault_users::a_wrong_key_stops_at_the_first_refusal_and_nothing_is_lost"
    " fault_users::an_exhausted_quota_ends_direct_calls_with_a_sentence"
    " fault_users::an_exhausted_quota_makes_batch_jobs_wait_and_says_so",
    25: "rows reordered, doubled, missing, foreign:"
    " fault_results::rows_are_joined_by_key_and_what_does_not_belong_is_counted"
    " fault_results::rows_that_bring_no_vector_are_sent_again_alone",
    26: "rows poisoned: fault_results::rows_that_bring_no_vector_are_sent_again_alone"
    " fault_results::an_enormous_line_costs_only_itself"
    " fault_results::numbers_no_float_can_hold_and_lists_in_lists_are_no_vectors",
    27: "bad ends of jobs: fault_ends::a_job_that_ends_badly_is_sent_again_in_a_new_one"
    " fault_ends::a_job_that_always_ends_badly_falls_back_or_fails_with_the_reason"
    " fault_ends::the_part_that_came_is_kept_and_only_the_rest_is_sent_again",
    28: "list in pages, list that lags: batch::a_job_on_a_later_page_of_the_list_is_found"
    " fault_state::the_list_that_lags_longer_than_the_grace_time_costs_one_job_more_and_no_second_one",
    29: "two workers at once:"
    " fault_state::machines_that_start_at_the_same_instant_share_the_work_and_buy_nothing_twice"
    " direct::two_processes_at_once_never_send_the_same_text",
    30: "paused past the lease: fault_state::whoever_slept_past_the_lease_writes_nothing_any_more"
    " fault_state::a_worker_overtaken_in_the_middle_of_a_request_leaves_the_new_owners_result_alone"
    " direct::after_a_sleep_of_the_machine_only_what_nobody_else_took_is_sent",
    31: "clock jumps: worker::a_jump_of_the_clock_steals_no_claim"
    " worker::a_jump_of_our_clock_makes_no_job_too_old worker::after_a_jump_no_pause_is_negative_or_endless"
    " worker::a_jump_before_an_unclear_creation_is_looked_into_buys_nothing_twice",
    32: "SIGTERM, Ctrl-C: worker::a_signal_in_any_request_lets_the_step_end_and_gives_everything_back"
    " fault_users::a_signal_during_any_request_ends_index_in_seconds_and_the_next_run_goes_on"
    " fault_users::a_provider_that_hangs_holds_nobody_back_and_a_second_signal_is_immediate",
    33: "the parser dies: pool::a_file_that_kills_the_parser_costs_only_itself"
    " pool::a_child_never_holds_more_memory_than_allowed",
    34: "pathological repositories: git_attacks::a_tree_bomb_is_cut_at_the_limit"
    " git_attacks::an_enormous_blob_is_known_by_its_size_without_being_read"
    " chunking_invariants::hostile_input_does_not_hang_the_chunker pool::real_hostile_files_stay_within_the_limits",
    35: "force-push while indexing: git::a_mirror_follows_the_remote_even_after_a_force_push"
    " fault_users::a_branch_that_is_rewritten_while_its_texts_are_out_is_published_as_it_was_and_then_as_it_is",
    36: "a second process on the vectors: vectors::a_second_process_is_told_at_once_who_has_the_index"
    " cli_index::a_second_index_on_the_same_data_directory_is_told_at_once",
}

# field-notes.md, 1: how others lose work or money.
NOTES = {
    1: "failed lines in a succeeded file are lost: fault_results::rows_that_bring_no_vector_are_sent_again_alone"
    " fault_results::a_row_that_fails_again_and_again_has_failed_with_the_providers_reason",
    2: "an error while saving loses a paid job:"
    " fault_results::a_job_whose_results_cannot_be_saved_has_not_failed_and_is_taken_in_later"
    " fault_users::a_disk_full_while_a_result_is_saved_is_a_sentence_and_the_result_is_fetched_later",
    3: "the dead job is polled again: fault_ends::a_job_that_ends_badly_is_sent_again_in_a_new_one",
    4: "the upload's name is saved too late:"
    " batch::every_intent_is_in_the_database_before_the_provider_hears_of_it"
    " batch::an_upload_whose_reply_was_lost_is_found_by_name_and_content",
    5: "two workers submit one row:"
    " fault_state::machines_that_start_at_the_same_instant_share_the_work_and_buy_nothing_twice"
    " queue::two_processes_never_claim_the_same_text",
    6: "a job taken up again resets what is out:"
    " fault_users::a_key_that_is_withdrawn_while_jobs_are_out_stops_and_they_are_taken_in_later"
    " fault_state::a_worker_overtaken_in_the_middle_of_a_request_leaves_the_new_owners_result_alone",
    7: "queued counts as completed: fault_users::search_works_from_the_old_index_while_the_new_one_is_out"
    " cli_jobs::a_job_written_down_as_succeeded_is_not_while_a_chunk_of_it_waits",
    8: "500 and 503 at submission are final: batch::no_5xx_and_no_hang_up_is_ever_final_at_submission",
    9: "cancelled, expired, vanished jobs stay for ever: fault_ends::a_job_that_ends_badly_is_sent_again_in_a_new_one"
    " fault_ends::a_job_that_is_too_old_is_cancelled_first_and_then_sent_again"
    " fault_ends::a_state_nobody_has_heard_of_is_waited_for",
    10: "a full queue goes direct in silence:"
    " worker::a_queue_of_any_length_is_cut_into_batch_jobs_and_never_sent_directly"
    " worker::texts_that_fell_back_are_sent_directly_after_the_price_was_told",
    11: "one rejected chunk fails everything: direct::one_poisoned_text_among_500_fails_alone_and_with_its_reason"
    " fault_results::a_row_that_fails_alone_in_its_job_is_isolated_by_a_direct_call",
    12: "unknown counts become 0: fault_results::a_count_that_was_not_told_stays_unknown_and_is_not_zero"
    " state::unknown_token_counts_are_null_and_never_zero",
    13: "the sample is the first tenth: pool::the_sample_is_drawn_by_text_and_does_not_depend_on_the_order",
    14: "test vectors pass for real ones:"
    " cli_jobs::what_is_embedded_already_costs_nothing_and_synthetic_vectors_do_not_count",
    15: "vectors of different tasks and norms: models::001_is_told_the_task_in_a_parameter"
    " models::a_vector_has_length_one_and_keeps_its_direction"
    " batch::model_2_is_told_its_task_in_the_text_and_its_vectors_are_taken_as_they_are"
    " search::similarities_of_different_spaces_are_never_compared",
    16: "removed code stays: cli_index::changed_and_deleted_files_leave_nothing_stale",
    17: "rules lose files: skip::files_of_the_project_itself_are_not_lost_to_a_greedy_rule"
    " chunking_languages::language_by_name_extension_and_content",
    18: "lines in no chunk, chunks too large or tiny:"
    " chunking_symbols::comments_and_decorators_belong_to_the_definition_below"
    " chunking_invariants::real_code_keeps_the_promises batch::a_text_over_the_limit_is_never_sent_and_the_others_are",
    19: "text lost in nodes: chunking_invariants::any_bytes_in_any_language_keep_the_promises",
    20: "another order after a restart: fault_state::texts_stay_in_the_order_they_were_asked_for_over_restarts"
    " batch::texts_go_out_in_the_order_they_came_and_never_more_than_the_limit_in_a_job",
}
ROWS = [(f"matrix {number}", row) for number, row in MATRIX.items()]
ROWS += [(f"note {number}", row) for number, row in NOTES.items()]


# Lists what pytest would run, by its own collection: `file::test` and whether it would be skipped.
COLLECT = """
import sys
import pytest
from _pytest.skipping import evaluate_skip_marks

class List:
    def pytest_collection_finish(self, session):
        for item in session.items:
            name = item.path.stem + "::" + item.originalname
            print("COLLECTED", name.replace("test_", "", 1).replace("::test_", "::"), evaluate_skip_marks(item) is None)

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[List()]))
"""


@pytest.fixture(scope="module")
def collected() -> dict[str, bool]:
    """Each test of the files that are named here -> whether any case of it is run, and not skipped, on this machine."""
    files = {f"test_{file}.py" for _, row in ROWS for file in re.findall(r"(\w+)::", row)}
    paths = [str(path) for path in sorted(TESTS.glob("*/test_*.py")) if path.name in files]
    done = subprocess.run([sys.executable, "-c", COLLECT, *paths], cwd=TESTS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, bool] = {}
    for name, runs in re.findall(r"^COLLECTED (\S+) (True|False)$", done.stdout, re.MULTILINE):
        found[name] = found.get(name, False) or runs == "True"
    return found


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_the_tests_of_a_row_are_run(name: str, row: str, collected: dict[str, bool]) -> None:
    named = re.findall(r"\w+::\w+", row)
    assert named, f"{name} names no test"
    assert len(named) == row.count("::")
    assert [test for test in named if test not in collected] == []
    if sys.platform == "linux" and os.geteuid() == 0:  # elsewhere no small disk can be mounted
        assert [test for test in named if not collected[test]] == []


def test_no_row_is_left_out() -> None:
    assert sorted(MATRIX) == list(range(1, 37))
    assert sorted(NOTES) == list(range(1, 21))
