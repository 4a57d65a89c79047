//! The column families and how RocksDB keeps them.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBPinnableSlice, DBRecoveryMode, IteratorMode, LiveFile, LogLevel, Options, ReadOptions,
};

use super::direct;
use super::keys::OnceKey;

const MIB: usize = 1024 * 1024;

/// Shared by all families. Chunks and bodies are read once and from blob files, which it does not hold.
const BLOCK_CACHE_BYTES: usize = 8 * MIB;

/// Smaller values stay in the tree, where compaction removes them when they are deleted.
const BLOB_BYTES_MIN: u64 = 16 * 1024;

/// Families whose rows are put once and then single-deleted. Their keys are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOnce {
    /// Slices: what one epoch added to one queue, less than 64 KiB.
    Tail,
    /// Chunks: sealed slices or large appends, 64-256 KiB, values in blob files.
    Chunks,
    /// One row for each chunk: what recovery needs to know of it.
    Index,
    /// What is settled in rows that are not gone yet.
    Settled,
    /// Large bodies, by id and part.
    Bodies,
    /// Delayed and retried records and expiry marks, by the time at which they are due.
    Due,
    /// Transient records that memory had no room for. Not logged, dropped at start.
    Spill,
}

/// Families whose rows are replaced and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutable {
    /// Topology, users, permissions; the store's own format, identity, epoch and ids.
    State,
}

/// All families; missing ones are created in this order.
const NAMES: [&str; 9] = [
    "default", "tail", "chunks", "index", "settled", "bodies", "due", "state", "spill",
];

impl WriteOnce {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tail => "tail",
            Self::Chunks => "chunks",
            Self::Index => "index",
            Self::Settled => "settled",
            Self::Bodies => "bodies",
            Self::Due => "due",
            Self::Spill => "spill",
        }
    }
}

impl Mutable {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
        }
    }
}

/// The numbers that RocksDB gave the families, as they stand in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct FamilyIds {
    write_once: [u32; 7],
    state: u32,
}

impl FamilyIds {
    pub(super) const fn write_once(&self, family: WriteOnce) -> u32 {
        self.write_once[family as usize]
    }

    pub(super) const fn mutable(&self, family: Mutable) -> u32 {
        match family {
            Mutable::State => self.state,
        }
    }
}

/// An open RocksDB with its families.
pub(super) struct Database {
    db: DB,
    ids: FamilyIds,
}

impl Database {
    /// Opens or creates the database; `spill` starts empty.
    pub(super) fn open(dir: &Path) -> Result<Self, rocksdb::Error> {
        Self::open_with(dir, database_options())
    }

    /// Opens a database whose log is damaged where some families are already ahead of it: reads of the log what can be
    /// read. Epochs may be missing in the middle.
    pub(super) fn salvage(dir: &Path) -> Result<Self, rocksdb::Error> {
        let mut options = database_options();
        options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
        Self::open_with(dir, options)
    }

    /// Opens the family `state` of a database that another process may have open, as it is now. RocksDB writes what it
    /// has to say into `scratch`.
    pub(super) fn look(dir: &Path, scratch: &Path) -> Result<Look, rocksdb::Error> {
        let mut options = database_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        // Files that the other process deletes have to stay readable.
        options.set_max_open_files(-1);
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let families = ["default", Mutable::State.name()]
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(name, &cache)));
        DB::open_cf_descriptors_as_secondary(&options, dir, scratch, families).map(Look)
    }

    fn open_with(dir: &Path, mut options: Options) -> Result<Self, rocksdb::Error> {
        // If that fails RocksDB says why.
        let _ = std::fs::create_dir_all(dir);
        let is_direct = direct::is_possible(dir);
        options.set_use_direct_io_for_flush_and_compaction(is_direct);
        options.set_use_direct_reads(is_direct);
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let families = NAMES
            .iter()
            .map(|name| ColumnFamilyDescriptor::new(*name, family_options(name, &cache)));
        let mut db = DB::open_cf_descriptors(&options, dir, families)?;
        let spill = WriteOnce::Spill.name();
        // Without a log and without files there is nothing in it. To make a family anew costs several syncs.
        let is_spill = |file: &LiveFile| file.column_family_name == spill;
        if db.live_files()?.iter().any(is_spill) {
            db.drop_cf(spill)?;
            db.create_cf(spill, &family_options(spill, &cache))?;
        }
        let id = |name| family_id(&db, name);
        use WriteOnce as W;
        let write_once = [
            W::Tail,
            W::Chunks,
            W::Index,
            W::Settled,
            W::Bodies,
            W::Due,
            W::Spill,
        ]
        .map(|f| id(f.name()));
        let ids = FamilyIds {
            write_once,
            state: id(Mutable::State.name()),
        };
        Ok(Self { db, ids })
    }

    pub(super) fn ids(&self) -> FamilyIds {
        self.ids
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn family(&self, family: WriteOnce) -> &ColumnFamily {
        handle(&self.db, family.name())
    }

    pub(super) fn state(&self) -> &ColumnFamily {
        handle(&self.db, Mutable::State.name())
    }

    /// The value of a row, `None` when it is not there.
    pub(super) fn get(
        &self,
        family: WriteOnce,
        key: &impl OnceKey,
    ) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        self.db.get_cf(self.family(family), key.encode())
    }

    /// The value of a row where RocksDB has it, `None` when it is not there: for who takes a copy of parts.
    pub(super) fn get_pinned(
        &self,
        family: WriteOnce,
        key: &impl OnceKey,
    ) -> Result<Option<DBPinnableSlice<'_>>, rocksdb::Error> {
        self.db.get_pinned_cf(self.family(family), key.encode())
    }

    /// Every row of a family, in order of its keys.
    pub(super) fn scan(&self, family: WriteOnce) -> DBIterator<'_> {
        self.db
            .iterator_cf_opt(self.family(family), scan_options(), IteratorMode::Start)
    }

    /// Every row of the `state` family.
    pub(super) fn scan_state(&self) -> DBIterator<'_> {
        self.db
            .iterator_cf_opt(self.state(), scan_options(), IteratorMode::Start)
    }
}

/// A database that is only read, and perhaps another process's.
pub(super) struct Look(DB);

impl Look {
    /// Every row of the `state` family.
    pub(super) fn rows(&self) -> DBIterator<'_> {
        let state = handle(&self.0, Mutable::State.name());
        self.0
            .iterator_cf_opt(state, scan_options(), IteratorMode::Start)
    }
}

type DBIterator<'a> = rocksdb::DBIterator<'a>;

fn scan_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    // A scan is done once, at the start: it must not push out what is used.
    options.fill_cache(false);
    options.set_readahead_size(1024 * 1024);
    options
}

fn handle<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name)
        .expect("every family was opened or created by `open`")
}

/// The crate does not tell a family's number, but a batch of one Put shows it.
fn family_id(db: &DB, name: &str) -> u32 {
    let mut probe = rocksdb::WriteBatch::default();
    probe.put_cf(handle(db, name), b"", b"");
    // Behind the 12 bytes of the batch's header and the type byte stands the number as a varint.
    let bytes = probe.data().get(13..).unwrap_or_default();
    let mut id = 0;
    for (position, byte) in bytes.iter().enumerate().take(5) {
        id |= u32::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            break;
        }
    }
    id
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(64 * MIB);
    options.set_max_total_wal_size(128 * MIB as u64);
    // A recycled log forbids strict recovery and gained nothing.
    options.set_recycle_log_file_num(0);
    // A torn end is normal after a crash. What is missing beyond that is found by the `durable` file.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_bytes_per_sync(512 * 1024);
    options.set_wal_bytes_per_sync(512 * 1024);
    options.set_max_open_files(512);
    // There are few files to open: RocksDB would start sixteen threads for it.
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(2);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 * MIB);
    options.set_log_level(LogLevel::Warn);
    // No periodic work: an idle broker uses no CPU.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options
}

fn family_options(name: &str, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(16 * MIB);
    options.set_max_write_buffer_number(3);
    options.set_compression_type(DBCompressionType::None);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    if matches!(name, "tail" | "chunks" | "spill" | "bodies") {
        table.set_bloom_filter(10.0, false);
    }
    options.set_block_based_table_factory(&table);
    if matches!(name, "chunks" | "spill" | "bodies") {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES_MIN);
        options.set_blob_compression_type(DBCompressionType::None);
        // RocksDB's own collection rewrites the live part of a deep queue over and over; see `cleaner`.
        options.set_enable_blob_gc(false);
    }
    options
}
