//! The contract of stores. Each test runs against every implementation.

mod audit;
mod fixtures;
mod inactive;
mod keys;
mod last_use;
mod lists;
mod purge;
mod revocation;
mod rotation;
mod search;
mod usage;

#[cfg(feature = "postgres")]
use super::{KeyStore, PostgresStore, testing};
#[cfg(feature = "sqlite")]
use super::{SqliteOptions, SqliteStore};

/// Runs the tests, which are listed by their modules, against every store.
macro_rules! contract {
    ($($module:ident: $($test:ident),+;)*) => {
        mod memory {
            $(mod $module {
                $(#[tokio::test] async fn $test() {
                    let store = std::sync::Arc::new(crate::store::MemoryStore::default());
                    super::super::$module::$test(super::super::fixtures::recorded(store)).await;
                })+
            })*
        }
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(mod $module {
                $(#[tokio::test] async fn $test() {
                    let (store, _folder) = super::super::sqlite_store().await;
                    super::super::$module::$test(super::super::fixtures::recorded(store)).await;
                })+
            })*
        }
        /// One test over one server, because a server is slow to start. Each part has a database of its own.
        #[cfg(feature = "postgres")]
        #[tokio::test]
        async fn postgres() {
            let server = testing::Postgres::start();
            let mut failed = Vec::new();
            $($({
                let store = std::sync::Arc::new(testing::store(&server, stringify!($test)).await);
                let recorded = fixtures::recorded(std::sync::Arc::<PostgresStore>::clone(&store));
                if tokio::spawn($module::$test(recorded)).await.is_err() {
                    failed.push(stringify!($test));
                }
                store.close().await;
            })+)*
            assert_eq!(failed, Vec::<&str>::new());
        }
    };
}

contract! {
    keys:
        stored_key_is_read_back_unchanged,
        missing_key_is_none_not_an_error,
        find_many_returns_the_keys_that_exist,
        tenants_are_isolated,
        write_to_another_tenant_is_rejected,
        second_insert_of_an_id_is_rejected,
        repeated_request_id_returns_the_first_key,
        concurrent_inserts_with_one_request_id_add_one_key,
        insert_many_skips_ids_that_are_taken,
        replace_requires_the_expected_version;
    lists:
        pages_return_every_key_once,
        filters_select_by_actor_and_status,
        lists_select_by_prefixes_of_actors;
    search:
        searches_return_every_matching_key_once_in_their_order,
        search_for_few_of_many_keys_continues_until_they_are_found,
        keys_added_during_a_search_neither_hide_nor_repeat_others;
    inactive:
        inactive_keys_are_counted_under_every_condition,
        count_of_many_keys_reads_a_bounded_number_of_rows,
        count_by_status_is_complete_for_many_keys;
    revocation:
        revocation_is_stored_with_all_its_fields,
        second_revocation_is_rejected,
        revocation_extends_but_never_shortens_the_expiry,
        count_active_excludes_revoked_keys,
        deleted_key_is_not_found_but_listed_as_revoked,
        revoked_keys_are_listed_latest_first;
    rotation:
        rotation_is_atomic_and_happens_once,
        one_of_many_concurrent_rotations_succeeds,
        replaced_key_is_active_until_its_time,
        replaced_key_can_be_revoked_before_its_time_and_not_after,
        replaced_key_is_listed_by_its_status,
        both_keys_of_a_rotation_have_a_last_use;
    last_use:
        last_use_is_recorded_once_a_day_without_a_change,
        concurrent_last_uses_and_changes_are_both_kept;
    purge:
        purge_deletes_expired_keys_earliest_first,
        concurrent_purges_return_each_key_once,
        prune_deleted_removes_the_oldest_deletions;
    audit:
        every_write_leaves_a_row_with_what_it_changed,
        a_rotation_with_an_overlap_changes_the_old_key,
        a_write_that_changes_nothing_leaves_no_row,
        a_row_names_who_made_the_request,
        audit_pages_return_every_row_once_in_both_orders,
        audit_filters_select_rows,
        rows_are_sealed_once_by_concurrent_sealers,
        rows_of_an_ended_process_are_sealed_by_another_one,
        rows_with_a_wrong_code_are_never_sealed,
        a_chain_verifies_after_its_first_rows_were_removed;
    usage:
        batches_of_all_writers_add_up,
        batch_is_added_once,
        concurrent_writers_add_up,
        usage_is_summed_by_period_and_refusal,
        usage_of_tenants_and_kinds_is_separate,
        requests_without_key_are_apart,
        keys_with_the_most_requests_come_first,
        large_counts_are_kept,
        prune_removes_hours_before_a_time,
        usage_of_another_tenant_is_not_written;
}

/// A key for tests of other modules.
#[cfg(feature = "sqlite")]
pub(super) fn some_key() -> crate::key::ApiKey {
    fixtures::key(fixtures::issued(1))
}

/// A store over a new file, and the folder of the file.
#[cfg(feature = "sqlite")]
async fn sqlite_store() -> (std::sync::Arc<SqliteStore>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { path: Some(folder.path().join("keys.db")), max_connections: 4 };
    (std::sync::Arc::new(SqliteStore::open(&options).await.unwrap()), folder)
}
