// Files that are whole or not there: written beside, synced, renamed, the folder synced; and read with a digest in
// front, so that a damaged one is known as such.
import { createHash } from "node:crypto";
import { closeSync, constants, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/** What was read is not what was written. */
export class Damaged extends Error {}

const digestOf = (text) => createHash("sha256").update(text).digest("hex");

function syncFolder(folder) {
  const descriptor = openSync(folder, O_RDONLY | O_DIRECTORY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function writeWhole(path, bytes, mode) {
  const descriptor = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Replace a file durably. Throws what the disk says; the file is then the one before. */
export function replaceFile(path, text, mode = 0o600) {
  const beside = `${path}.new`;
  rmSync(beside, { force: true });
  writeWhole(beside, Buffer.from(text), mode);
  renameSync(beside, path);
  syncFolder(dirname(path));
}

/** Replace a file durably with members that `readMembers` gives back. */
export function writeMembers(path, members) {
  const text = JSON.stringify(members);
  replaceFile(path, `${digestOf(text)}\n${text}`);
}

/** Return what was written, null where there is no file. Throws Damaged, and what the disk says. */
export function readMembers(path) {
  let content;
  try {
    // a link is refused, and a pipe does not hold us up
    const descriptor = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      content = readFileSync(descriptor, "utf8");
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (error.code === "ENOENT") return null;
    if (["ELOOP", "EISDIR", "ENXIO"].includes(error.code)) throw new Damaged(`${path} is no file`);
    throw error;
  }
  const end = content.indexOf("\n");
  const text = content.slice(end + 1);
  if (content.slice(0, Math.max(end, 0)) !== digestOf(text)) throw new Damaged(`${path} was changed or cut`);
  return JSON.parse(text);
}

/** Move a file that cannot be used out of the way, for a person to look at. */
export function setAside(path) {
  try {
    renameSync(path, path.replace(/\.state$/, ".damaged"));
  } catch {
    // a disk that takes no writes is no reason not to start; the next save replaces the file
  }
}
