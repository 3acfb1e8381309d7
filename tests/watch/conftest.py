"""Tests of the page that `make test` runs; the others have the mark `pages`, as a browser takes seconds for each."""

import pytest

OFTEN = frozenset(
    {
        "test_a_filter_shows_only_what_passes",
        "test_a_reader_who_comes_after_the_end_sees_it_all",
        "test_a_run_of_another_process_is_watched_reloaded_and_cancelled",
        "test_a_run_starts_with_the_values_of_the_fields",
        "test_a_visitor_logs_in_where_it_is_and_out_again",
        "test_a_whole_run_keeps_the_policy_and_asks_no_other_host",
        "test_ended_nodes_are_lines_and_what_a_person_opens_stays_open",
        "test_hostile_text_stays_text_and_shows_its_hidden_codes",
        "test_nodes_light_up_while_a_run_goes_through_them",
        "test_only_safe_targets_become_links_and_no_image_of_another_host_is_loaded",
        "test_runs_appear_and_change_as_they_happen",
        "test_steps_changes_and_values",
        "test_the_answer_of_an_agent_is_its_last_message_and_not_shown_twice",
        "test_the_filter_is_in_the_address",
        "test_the_slider_shows_every_moment_in_all_panels",
        "test_the_tree_of_a_run_by_keyboard",
        "test_two_people_answer_at_once_with_the_log_on_redis",
        "test_what_a_model_writes_is_never_markup",
    }
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the page that only `make pages` runs."""
    for item in items:
        if "watch" not in item.path.parts or "browser" not in item.keywords or "soak" in item.keywords:
            continue
        name = item.name.partition("[")[0]
        if name not in OFTEN:
            item.add_marker(pytest.mark.pages)
