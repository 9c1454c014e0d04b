//! `cldpd cp`.
//!
//! What is copied where follows `docker cp`. Nothing of an archive that came out
//! of a container is written outside the destination.

mod plan;

use crate::archive::{Chunks, Packer, Root, Unpacked, consume, produce, unpack};
use crate::cli::Context;
use crate::cli::error::{Done, plain, usage};
use crate::client::Client;
use crate::model::api::{PathKind, PathStat, UploadQuery};
use crate::model::ids::check_session_ref;
use crate::model::{Error, ErrorCode, Result, Stream, exit};
use futures::StreamExt as _;
use plan::{Destination, Place, Source, Spelling, Standing};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::bytes::Bytes;

/// Bytes that are read from standard input at once.
const CHUNK: usize = 64 * 1024;

/// Flags of `cp`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One of the two is SESSION:PATH; a path that is not absolute begins in the
session's working directory. Works while the session runs, and after its end for
as long as its container is kept. What is copied in belongs to the session's user.

A directory is copied into DEST where that is a directory, and becomes DEST where
nothing is there; SRC/. means what is in it. '-' is a tar archive on standard
input or output.

Examples:
  cldpd cp myrepo-3f9a1c2e:report.md .
  cldpd cp myrepo-3f9a1c2e:/home/agent/out/. results
  cldpd cp notes.md myrepo-3f9a1c2e:/tmp/
  cldpd cp myrepo-3f9a1c2e:src - | tar t")]
pub struct Args {
    /// What to copy
    #[arg(value_name = "SRC", allow_hyphen_values = true)]
    source: OsString,
    /// Where to
    #[arg(value_name = "DEST", allow_hyphen_values = true)]
    destination: OsString,
    /// Keep owners, as numbers
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link at SRC leads to, not the link
    #[arg(short = 'L', long)]
    follow_link: bool,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let source = Place::parse(&args.source)?;
    let destination = Place::parse(&args.destination)?;
    match (&source, &destination) {
        (Place::Session { session, path }, Place::Here(here)) => {
            check_session_ref(session)?;
            let to_terminal = context.ui.is_terminal(Stream::Stdout);
            if here.as_os_str() == "-" && to_terminal {
                return Err(usage("an archive is not for a terminal").into());
            }
            let client = context.client().await?;
            fetch(context, &client, session, path, here, &args).await
        }
        (Place::Here(here), Place::Session { session, path }) => {
            check_session_ref(session)?;
            if here.as_os_str() == "-" && io::stdin().is_terminal() {
                return Err(
                    usage("'-' is an archive on standard input, and that is a terminal").into(),
                );
            }
            let client = context.client().await?;
            send(&client, here, session, path, &args).await?;
            Ok(exit::OK)
        }
        (Place::Session { .. }, Place::Session { .. }) => {
            Err(usage("between two sessions nothing is copied directly")
                .hint("copy it here first")
                .into())
        }
        (Place::Here(_), Place::Here(_)) => Err(usage("neither SRC nor DEST is SESSION:PATH")
            .hint("as in `cldpd cp myrepo-3f9a1c2e:report.md .`")
            .into()),
    }
}

/// Out of a session.
async fn fetch(
    context: &mut Context,
    client: &Client,
    session: &str,
    path: &str,
    here: &Path,
    args: &Args,
) -> Done {
    let spelling = Spelling::of(path);
    let (stat, end) = followed(
        client,
        session,
        path,
        args.follow_link || spelling.follows(),
    )
    .await?;
    if here.as_os_str() == "-" {
        let mut chunks = client.read_archive(session, &end.path).await?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| broke(&error))?;
            context.ui.bytes(Stream::Stdout, &chunk)?;
        }
        return Ok(exit::OK);
    }
    let source = Source {
        name: name_of(Path::new(&stat.path)),
        directory: end.kind == PathKind::Directory,
        contents: spelling.contents,
    };
    let destination = Destination {
        path: here.to_owned(),
        spelling: Spelling::of(&here.to_string_lossy()),
        standing: standing_here(here)?,
    };
    let (into, root) = plan::arrange(source, destination)?;
    if !into.is_dir() {
        return Err(no_directory(&into.display().to_string()).into());
    }
    let chunks = client.read_archive(session, &end.path).await?;
    let owners = args.archive;
    let done = consume(chunks, move |from| unpack(from, &into, &root, owners)).await;
    let Unpacked { left_out, .. } = done.map_err(|error| broke(&error))?;
    if left_out > 0 {
        context.ui.note(&format!(
            "{left_out} left out: neither files nor directories nor links"
        ));
    }
    Ok(exit::OK)
}

/// Into a session.
async fn send(client: &Client, here: &Path, session: &str, path: &str, args: &Args) -> Result<()> {
    let standing = standing_there(client, session, path).await?;
    let spelling = Spelling::of(path);
    if here.as_os_str() == "-" {
        let Standing::Directory(into) = standing else {
            return Err(no_directory(path));
        };
        return upload(client, session, into, standard_input(), args.archive).await;
    }
    let shown = here.display().to_string();
    let own = Spelling::of(&shown);
    let meta = match args.follow_link || own.follows() {
        true => here.metadata(),
        false => here.symlink_metadata(),
    };
    let meta = meta.map_err(|error| unreadable(&shown, &error))?;
    let end = match args.follow_link || own.follows() {
        true => here
            .canonicalize()
            .map_err(|error| unreadable(&shown, &error))?,
        false => here.to_owned(),
    };
    let name = match here.file_name() {
        Some(name) => name.to_owned(),
        None => name_of(&here.canonicalize().map_err(|e| unreadable(&shown, &e))?),
    };
    let source = Source {
        name,
        directory: meta.is_dir(),
        contents: own.contents,
    };
    let destination = Destination {
        path: PathBuf::from(path),
        spelling,
        standing,
    };
    let (into, root) = plan::arrange(source, destination)?;
    // Said before anything is read: an archive cannot be sent once more.
    let into = into.to_string_lossy().into_owned();
    match standing_there(client, session, &into).await? {
        Standing::Directory(into) => {
            upload(client, session, into, packed(end, root), args.archive).await
        }
        Standing::Other(_) | Standing::Nothing => Err(no_directory(&into)),
    }
}

fn packed(source: PathBuf, root: Root) -> Chunks {
    produce(move |to| {
        let mut packer = Packer::new(to, None);
        match root {
            Root::Named(name) => packer.add(&source, Path::new(&name))?,
            Root::Inside | Root::AsNamed => packer.add_contents(&source)?,
        }
        packer.finish()
    })
}

fn standard_input() -> Chunks {
    produce(move |to| {
        let mut stdin = io::stdin().lock();
        let mut chunk = vec![0; CHUNK];
        loop {
            match stdin.read(&mut chunk)? {
                0 => return Ok(()),
                read => to.write_all(&chunk[..read])?,
            }
        }
    })
}

async fn upload(
    client: &Client,
    session: &str,
    path: String,
    chunks: Chunks,
    keep_owners: bool,
) -> Result<()> {
    // Why nothing more comes is known here; the connection only sees that it breaks.
    let wrong: Arc<Mutex<Option<Error>>> = Arc::default();
    let noted = Arc::clone(&wrong);
    let chunks = chunks.inspect(move |chunk: &io::Result<Bytes>| {
        if let Err(error) = chunk {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(broke(error));
        }
    });
    let query = UploadQuery { path, keep_owners };
    let sent = client.write_archive(session, &query, chunks.boxed()).await;
    match wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => sent.map(|_| ()),
    }
}

/// What is at a path of a session, and what a link there leads to if that is wanted.
async fn followed(
    client: &Client,
    session: &str,
    path: &str,
    follow: bool,
) -> Result<(PathStat, PathStat)> {
    let stat = client.path_stat(session, path).await?;
    let end = match &stat.link_target {
        Some(target) if follow => client.path_stat(session, target).await?,
        Some(_) | None => stat.clone(),
    };
    Ok((stat, end))
}

async fn standing_there(client: &Client, session: &str, path: &str) -> Result<Standing> {
    match followed(client, session, path, true).await {
        Ok((_, end)) => {
            let path = end.path;
            Ok(match end.kind {
                PathKind::Directory => Standing::Directory(path),
                PathKind::File | PathKind::Link | PathKind::Other => Standing::Other(path),
            })
        }
        Err(error) if error.code == ErrorCode::PathNotFound => Ok(Standing::Nothing),
        Err(error) => Err(error),
    }
}

fn standing_here(path: &Path) -> Result<Standing> {
    let text = path.display().to_string();
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Ok(Standing::Directory(text)),
        Ok(_) => Ok(Standing::Other(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Nothing),
        Err(error) => Err(unreadable(&text, &error)),
    }
}

fn name_of(path: &Path) -> OsString {
    path.file_name().unwrap_or("root".as_ref()).to_owned()
}

fn no_directory(path: &str) -> Error {
    Error::new(
        ErrorCode::PathNotFound,
        format!("there is no directory {path}"),
    )
    .hint("make it first: only the last part of DEST is made")
}

fn unreadable(path: &str, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::NotFound => ErrorCode::PathNotFound,
        _ => ErrorCode::CopyFailed,
    };
    Error::new(code, format!("{path}: {}", plain(error)))
}

/// A copy that broke off: the daemon's own error where there is one.
fn broke(error: &io::Error) -> Error {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(own) => own.clone(),
        None => Error::new(
            ErrorCode::CopyFailed,
            format!("cannot copy: {}", plain(error)),
        ),
    }
}
