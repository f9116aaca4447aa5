//! A disk that forgets what was not synced: a layer between SQLite and the file system.
//!
//! Writes go to real files at once, as to a page cache. The remains after a loss of power are
//! computed: all that was synced, and any part of the rest.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::Once;

use rusqlite::ffi;
use tokio::sync::Notify;

use crate::dice::Dice;
use crate::host;

/// Bytes that a disk writes as a whole.
const SECTOR: usize = 512;

/// The disk of a simulated host.
#[derive(Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, Tracked>,
    /// Set once the process is dead: nothing that it does reaches the disk.
    pub(crate) is_gone: bool,
    /// Number of writes, truncations and syncs so far.
    pub(crate) acts: u64,
    /// The act at which the process dies; none for none.
    pub(crate) dies_at: Option<u64>,
    /// The act that fails with an error of the device; none for none.
    pub(crate) breaks_at: Option<u64>,
    /// The sync, counted from 1, that fails; none for none.
    pub(crate) sync_fails_at: Option<u64>,
    /// Number of syncs so far.
    pub(crate) syncs: u64,
    /// Set while there is no space.
    pub(crate) is_full: bool,
    /// A planted fault: syncs that say so and do nothing.
    pub(crate) lies: bool,
    /// Rung when the process dies.
    pub(crate) died: Rc<Notify>,
}

/// The reason why an act of the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is dead.
    Gone,
    /// The device reports an error.
    Broken,
    /// There is no space.
    Full,
}

/// A file, and what the disk has of it.
struct Tracked {
    inode: (u64, u64),
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// A change that was not synced.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// The part of the changes that were not synced which a loss of power leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Nothing.
    Nothing,
    /// All of them.
    Everything,
    /// The first ones, the last of which may be torn.
    Beginning,
    /// Any of them, in any order, each of which may be torn.
    Any,
}

impl Remains {
    /// Every kind.
    pub(crate) const ALL: [Remains; 4] =
        [Remains::Nothing, Remains::Everything, Remains::Beginning, Remains::Any];
}

impl Disk {
    /// Counts an act, and says whether it is done.
    fn act(&mut self) -> Result<(), Fault> {
        if self.is_gone {
            return Err(Fault::Gone);
        }
        self.acts += 1;
        if self.dies_at.is_some_and(|at| self.acts >= at) {
            self.die();
            return Err(Fault::Gone);
        }
        match self.breaks_at {
            Some(at) if self.acts == at => Err(Fault::Broken),
            Some(_) | None => Ok(()),
        }
    }

    /// Cuts the process off from the disk.
    pub(crate) fn die(&mut self) {
        self.is_gone = true;
        self.died.notify_one();
    }

    fn grow(&mut self) -> Result<(), Fault> {
        self.act()?;
        if self.is_full { Err(Fault::Full) } else { Ok(()) }
    }

    fn sync(&mut self, name: &str) -> Result<(), Fault> {
        self.act()?;
        self.syncs += 1;
        if self.sync_fails_at == Some(self.syncs) {
            return Err(Fault::Broken);
        }
        if !self.lies
            && let Some(file) = self.files.get_mut(name)
        {
            for change in std::mem::take(&mut file.pending) {
                change.apply(&mut file.durable);
            }
        }
        Ok(())
    }

    /// Syncs the file of an inode, if it is on this disk.
    pub(crate) fn sync_inode(&mut self, inode: (u64, u64)) -> Result<(), Fault> {
        let name = self.files.iter().find(|(_, file)| file.inode == inode);
        match name.map(|(name, _)| name.clone()) {
            Some(name) => self.sync(&name),
            None => Ok(()),
        }
    }

    fn track(&mut self, name: &str) {
        let Ok(data) = fs::metadata(name) else { return };
        let inode = (data.dev(), data.ino());
        if self.files.get(name).is_some_and(|file| file.inode == inode) {
            return;
        }
        let durable = fs::read(name).unwrap_or_default();
        self.files.insert(name.into(), Tracked { inode, durable, pending: Vec::new() });
    }

    fn change(&mut self, name: &str, change: Change) {
        if let Some(file) = self.files.get_mut(name) {
            file.pending.push(change);
        }
    }

    /// Makes every file what a loss of power leaves of it. Nobody may have one open.
    pub(crate) fn lose_power(&mut self, remains: Remains, dice: &mut Dice) {
        for (name, mut file) in std::mem::take(&mut self.files) {
            file.lose(remains, dice);
            fs::write(&name, &file.durable).expect("written");
        }
    }

    /// Connects the process that starts next.
    pub(crate) fn connect(&mut self, folder: &std::path::Path) {
        self.is_gone = false;
        self.dies_at = None;
        self.breaks_at = None;
        self.sync_fails_at = None;
        self.is_full = false;
        // The index of the log lives in memory.
        let _ = fs::remove_file(folder.join("tallyman.db-shm"));
    }
}

impl Tracked {
    fn lose(&mut self, remains: Remains, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        let count = pending.len();
        let first = dice.below(count as u64 + 1) as usize;
        for (index, change) in pending.into_iter().enumerate() {
            let (kept, torn) = match remains {
                Remains::Nothing => (false, false),
                Remains::Everything => (true, false),
                Remains::Beginning => (index <= first, index == first),
                Remains::Any => (dice.one_in(2), dice.one_in(4)),
            };
            match (kept, torn) {
                (false, _) => {}
                (true, false) => change.apply(&mut self.durable),
                (true, true) => change.torn(dice).apply(&mut self.durable),
            }
        }
    }
}

impl Change {
    fn apply(self, file: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[at..end].copy_from_slice(&bytes);
            }
            Change::Truncate(length) => file.resize(length, 0),
        }
    }

    /// The part of a change that was done when the power went.
    fn torn(self, dice: &mut Dice) -> Self {
        match self {
            Change::Write { at, mut bytes } => {
                let sectors = bytes.len() / SECTOR;
                bytes.truncate(dice.below(sectors as u64 + 1) as usize * SECTOR);
                Change::Write { at, bytes }
            }
            whole @ Change::Truncate(_) => whole,
        }
    }
}

/// The layer's own part of an open file; the file system's part lies behind it.
#[repr(C)]
struct Open {
    base: ffi::sqlite3_file,
    /// The name, for files of a simulated disk; null for all others.
    name: *const c_char,
}

const BEHIND: usize = size_of::<Open>();

/// Puts the layer under every connection of this program.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: SQLite's default layer lives as long as the program, and so does what is leaked.
        unsafe {
            let real = ffi::sqlite3_vfs_find(std::ptr::null());
            let mut layer = *real;
            layer.zName = c"simulated".as_ptr();
            layer.pNext = std::ptr::null_mut();
            layer.szOsFile += BEHIND as c_int;
            layer.xOpen = Some(open);
            layer.xDelete = Some(delete);
            REAL.set(Real(real)).ok().expect("once");
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(layer)), 1);
            assert_eq!(code, ffi::SQLITE_OK);
        }
    });
}

struct Real(*mut ffi::sqlite3_vfs);
// SAFETY: SQLite uses it from every thread.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

static REAL: std::sync::OnceLock<Real> = std::sync::OnceLock::new();

fn real() -> *mut ffi::sqlite3_vfs {
    REAL.get().expect("installed").0
}

/// The file system's part of a file, and its methods.
///
/// # Safety
/// `file` was opened by [`open`].
unsafe fn behind(
    file: *mut ffi::sqlite3_file,
) -> (*mut ffi::sqlite3_file, ffi::sqlite3_io_methods) {
    // SAFETY: the layer's files have the file system's part behind their own.
    unsafe {
        let inner = file.cast::<u8>().add(BEHIND).cast::<ffi::sqlite3_file>();
        (inner, *(*inner).pMethods)
    }
}

/// The name of a file of the simulated disk.
///
/// # Safety
/// `file` was opened by [`open`].
unsafe fn name_of<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a str> {
    // SAFETY: SQLite keeps the name as long as the file is open.
    unsafe {
        let name = (*file.cast::<Open>()).name;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_str().expect("a path"))
    }
}

fn code(fault: Fault, broken: c_int) -> c_int {
    match fault {
        Fault::Gone | Fault::Broken => broken,
        Fault::Full => ffi::SQLITE_FULL,
    }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for both parts, and a name that lives as long as the file.
    unsafe {
        let inner = file.cast::<u8>().add(BEHIND).cast::<ffi::sqlite3_file>();
        (*file).pMethods = std::ptr::null();
        let code = (*real()).xOpen.expect("a method")(real(), name, inner, flags, out);
        if code != ffi::SQLITE_OK {
            return code;
        }
        let lasts = flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) != 0;
        let is_ours = lasts && !name.is_null() && host::with(|_| ()).is_some();
        (*file.cast::<Open>()).name = if is_ours { name } else { std::ptr::null() };
        (*file).pMethods = &METHODS;
        if is_ours {
            let name = CStr::from_ptr(name).to_str().expect("a path");
            host::with(|host| host.disk.track(name));
        }
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite's own arguments.
    unsafe {
        let text = CStr::from_ptr(name).to_str().expect("a path");
        let allowed = host::with(|host| {
            host.disk.act()?;
            host.disk.files.remove(text);
            Ok(())
        });
        match allowed {
            Some(Err(fault)) => code(fault, ffi::SQLITE_IOERR_DELETE),
            Some(Ok(())) | None => (*real()).xDelete.expect("a method")(real(), name, sync),
        }
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite's own arguments.
    unsafe {
        let (inner, methods) = behind(file);
        let done = || methods.xWrite.expect("a method")(inner, bytes, count, at);
        let Some(name) = name_of(file) else { return done() };
        let verdict = host::with(|host| host.disk.grow()).unwrap_or(Err(Fault::Gone));
        if let Err(fault) = verdict {
            return code(fault, ffi::SQLITE_IOERR_WRITE);
        }
        let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), count as usize).to_vec();
        let change = Change::Write { at: at as usize, bytes };
        host::with(|host| host.disk.change(name, change));
        done()
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: SQLite's own arguments.
    unsafe {
        let (inner, methods) = behind(file);
        let done = || methods.xTruncate.expect("a method")(inner, length);
        let Some(name) = name_of(file) else { return done() };
        let verdict = host::with(|host| host.disk.act()).unwrap_or(Err(Fault::Gone));
        if let Err(fault) = verdict {
            return code(fault, ffi::SQLITE_IOERR_TRUNCATE);
        }
        host::with(|host| host.disk.change(name, Change::Truncate(length as usize)));
        done()
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite's own arguments.
    unsafe {
        let (inner, methods) = behind(file);
        let Some(name) = name_of(file) else {
            return methods.xSync.expect("a method")(inner, flags);
        };
        match host::with(|host| host.disk.sync(name)).unwrap_or(Err(Fault::Gone)) {
            Ok(()) => ffi::SQLITE_OK,
            Err(fault) => code(fault, ffi::SQLITE_IOERR_FSYNC),
        }
    }
}

/// Methods that hand on to the file system.
macro_rules! hand_on {
    ($($name:ident = $method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($argument: $type),*) -> $answer {
            // SAFETY: SQLite's own arguments.
            unsafe {
                let (inner, methods) = behind(file);
                methods.$method.expect("a method")(inner, $($argument),*)
            }
        }
    )*};
}

hand_on! {
    close = xClose() -> c_int;
    read = xRead(to: *mut c_void, count: c_int, at: i64) -> c_int;
    file_size = xFileSize(size: *mut i64) -> c_int;
    lock = xLock(level: c_int) -> c_int;
    unlock = xUnlock(level: c_int) -> c_int;
    check_reserved_lock = xCheckReservedLock(out: *mut c_int) -> c_int;
    file_control = xFileControl(act: c_int, argument: *mut c_void) -> c_int;
    sector_size = xSectorSize() -> c_int;
    device_characteristics = xDeviceCharacteristics() -> c_int;
    shm_map = xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int;
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier = xShmBarrier() -> ();
    shm_unmap = xShmUnmap(delete: c_int) -> c_int;
}
