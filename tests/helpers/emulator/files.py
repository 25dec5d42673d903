"""The file service: resumable uploads, kept in one temporary folder, and result files beside them."""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from emulator.wire import (
    ApiError,
    Json,
    Reply,
    double_hash,
    identifier,
    no_file,
    parse_object,
    pick,
    refuse,
    reply,
    timestamp,
)

LIFETIME_S = 48 * 3600.0
MAX_BYTES = 2 * 1024**3
# The real service names 8 MiB and demands multiples of 256 KiB.
GRANULARITY = 256 * 1024


@dataclass
class StoredFile:
    """A file of the service. Times are seconds since 1970 by the emulator's clock."""

    name: str
    path: Path
    display_name: str | None
    mime_type: str
    size_bytes: int
    sha256: str
    created: float
    expires: float
    source: str = "UPLOADED"
    number: int = 0

    def resource(self, url: str) -> Json:
        """As it looks on the wire."""
        found: Json = {
            "name": self.name,
            "mimeType": self.mime_type,
            "sizeBytes": str(self.size_bytes),
            "createTime": timestamp(self.created),
            "updateTime": timestamp(self.created),
            "expirationTime": timestamp(self.expires),
            "sha256Hash": double_hash(self.sha256),
            "uri": f"{url}/v1beta/{self.name}",
            "state": "ACTIVE",
            "source": self.source,
        }
        if self.size_bytes == 0:
            del found["sizeBytes"]
        if self.display_name:
            found["displayName"] = self.display_name
        if self.source == "GENERATED":
            found["downloadUri"] = f"{url}/download/v1beta/{self.name}:download?alt=media"
        return found


class Upload:
    """One resumable upload: bytes are appended to a file as they come."""

    def __init__(self, path: Path, fields: Json, size_bytes: int | None) -> None:
        self.path = path
        self.fields = fields
        self.size_bytes = size_bytes
        self.received = 0
        self.digest = hashlib.sha256()
        self.done: StoredFile | None = None
        self.lock = threading.Lock()

    def append(self, offset: int, blocks: Iterable[bytes]) -> None:
        """Store what is new; a chunk sent again is taken once."""
        if offset > self.received:
            refuse(f"Invalid offset {offset}: {self.received} bytes were received")
        known = self.received - offset
        with self.path.open("ab") as file:
            for block in blocks:
                fresh = block[known:]
                known = max(0, known - len(block))
                file.write(fresh)
                self.digest.update(fresh)
                self.received += len(fresh)
        if self.size_bytes is not None and self.received > self.size_bytes:
            refuse("More bytes were sent than announced")


class Files:
    """All files and uploads. Every method may be called by many threads."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self.folder = folder
        self.url = ""
        self.stored: dict[str, StoredFile] = {}
        self._now = now
        self._uploads: dict[str, Upload] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def next_path(self) -> Path:
        """A fresh place for bytes."""
        return self.folder / f"{next(self._numbers):06d}"

    def start(self, body: bytes, headers: dict[str, str], prefix: str, version: str) -> Reply:
        """The first request of an upload: tells where to send the bytes."""
        fields = parse_object(body).get("file", {})
        fields = pick(fields, "name", "displayName", "mimeType", "sizeBytes", where="file")
        if len(fields.get("displayName", "")) > 512:
            refuse("* CreateFileRequest.file.display_name: cannot be longer than 512 characters")
        name = fields.get("name")
        if name is not None and len(name.removeprefix("files/")) > 40:
            refuse("* CreateFileRequest.file.name: File ID cannot be more than 40 characters.")
        if headers.get("x-goog-upload-protocol") != "resumable" or headers.get("x-goog-upload-command") != "start":
            refuse("Upload must start with X-Goog-Upload-Protocol: resumable and X-Goog-Upload-Command: start")
        fields.setdefault("mimeType", headers.get("x-goog-upload-header-content-type", "application/octet-stream"))
        announced = headers.get("x-goog-upload-header-content-length")
        size = int(announced) if announced and announced.isdigit() else None
        if size is not None and size > MAX_BYTES:
            refuse("The file is too large: 2 GB at most")
        with self._lock:
            if name in self.stored:
                raise ApiError(409, f"File {name} already exists")
            path = self.next_path()
            upload_id = identifier(f"upload {path.name}", 40)
            path.touch()
            self._uploads[upload_id] = Upload(path, fields, size)
        where = f"{self.url}{prefix}/upload/{version}/files?upload_id={upload_id}&upload_protocol=resumable"
        return Reply(
            headers={
                "X-Goog-Upload-URL": where,
                "X-Goog-Upload-Control-URL": where,
                "X-Goog-Upload-Status": "active",
                "X-Goog-Upload-Chunk-Granularity": str(GRANULARITY),
                "X-GUploader-UploadID": upload_id,
            }
        )

    def chunk(self, upload_id: str, headers: dict[str, str], blocks: Iterable[bytes], *, hide_file: bool) -> Reply:
        """Further requests of an upload; nobody asks for a key here."""
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise ApiError(404, "Upload not found")
        commands = {word.strip() for word in headers.get("x-goog-upload-command", "").split(",")}
        with upload.lock:
            if "query" in commands:
                status = "final" if upload.done else "active"
                received = str(upload.received)
                return Reply(headers={"X-Goog-Upload-Status": status, "X-Goog-Upload-Size-Received": received})
            if upload.done is None:
                upload.append(int(headers.get("x-goog-upload-offset", "0")), blocks)
                if "finalize" not in commands:
                    return Reply(headers={"X-Goog-Upload-Status": "active"})
                if upload.size_bytes is not None and upload.received != upload.size_bytes:
                    refuse(f"{upload.received} bytes were sent, {upload.size_bytes} announced")
                upload.done = self._finalize(upload)
            resource = {} if hide_file else {"file": upload.done.resource(self.url)}
            return reply(resource, {"X-Goog-Upload-Status": "final"})

    def _finalize(self, upload: Upload) -> StoredFile:
        name = upload.fields.get("name") or f"files/{identifier(f'file {upload.path.name}', 12)}"
        return self._keep(
            StoredFile(
                name=name,
                path=upload.path,
                display_name=upload.fields.get("displayName"),
                mime_type=upload.fields["mimeType"],
                size_bytes=upload.received,
                sha256=upload.digest.hexdigest(),
                created=self._now(),
                expires=self._now() + LIFETIME_S,
            )
        )

    def keep_result(self, name: str, path: Path, size_bytes: int, sha256: str) -> None:
        """Offer the result of a job for download."""
        now = self._now()
        self._keep(
            StoredFile(
                name, path, None, "application/jsonl", size_bytes, sha256, now, now + LIFETIME_S, source="GENERATED"
            )
        )

    def _keep(self, file: StoredFile) -> StoredFile:
        with self._lock:
            file.number = next(self._numbers)
            self.stored[file.name] = file
        return file

    def get(self, name: str) -> StoredFile:
        """A file that has not expired, else 403."""
        with self._lock:
            file = self.stored.get(name)
        if file is None or file.expires <= self._now():
            raise no_file(name)
        return file

    def newest_first(self) -> list[StoredFile]:
        """All that have not expired."""
        now = self._now()
        with self._lock:
            return sorted((file for file in self.stored.values() if file.expires > now), key=lambda file: -file.number)

    def delete(self, name: str) -> Reply:
        """Delete an upload; a result cannot be deleted, its id is too long for the service's own check."""
        if len(name.removeprefix("files/")) > 40:
            refuse("* DeleteFileRequest.name: File ID (name excluding 'files/') cannot be more than 40 characters.")
        file = self.get(name)
        self.forget(file)
        return reply({})

    def download(self, name: str) -> Reply:
        """The bytes of a result file; uploads cannot be downloaded."""
        file = self.get(name)
        if file.source != "GENERATED":
            refuse(f"File {name.removeprefix('files/')} cannot be downloaded: only generated files can.")
        return Reply(file=file.path, content_type="application/octet-stream")

    def forget(self, file: StoredFile) -> None:
        """Remove it without a word."""
        with self._lock:
            self.stored.pop(file.name, None)
        file.path.unlink(missing_ok=True)

    def expire(self, *, results: bool) -> None:
        """As if 48 hours had passed for all uploads, and for results too if asked."""
        for file in self.newest_first():
            if results or file.source == "UPLOADED":
                self.forget(file)
