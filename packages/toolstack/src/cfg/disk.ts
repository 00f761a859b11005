/**
 * Disks as xl's configuration has them: `target, format, vdev, access`, each by its place or as `key=value`.
 * @see xl-disk-configuration(5)
 */
import { Complaint, listOf, type Reader } from "./readers.ts";
import { vdevNumber } from "./vdev.ts";

export const DISK_FORMATS = ["raw", "qcow2", "vhd", "image"] as const;
export type DiskFormat = (typeof DISK_FORMATS)[number];

export interface DiskSpec {
  /** Path of a file or block device; for format "image" the name of an image in the store. */
  readonly target: string;
  readonly format: DiskFormat;
  /** As it was written: "xvda". */
  readonly vdev: string;
  readonly devid: number;
  readonly readOnly: boolean;
  /** Whether the guest may give space back. */
  readonly discard: boolean;
  /** The guest is held to these; absent means no limit. Not in xl. */
  readonly bytesPerSecond?: number;
  readonly requestsPerSecond?: number;
  readonly burstSeconds?: number;
}

const POSITIONS = ["target", "format", "vdev", "access"] as const;
const KEYS = [...POSITIONS, "devtype", "backend", "backendtype", "script", "specification", "bps", "iops", "burst"];
/** Without effect here: whoever sets them gets what they ask for, or it concerns another toolstack's workings. */
const FLAGS_WITHOUT_EFFECT = ["direct-io-safe", "trusted"];
const PREFIXES_STRIPPED = /^(?:(?:tapdisk|tap2?|aio|ioemu|file|phy):)+/;
const PREFIXES_OF_FORMAT = /^(raw|qcow2|vhd):/;

const ACCESS: Readonly<Record<string, boolean>> = { r: true, ro: true, w: false, rw: false };

/** @throws Complaint */
export function parseDisk(text: string): DiskSpec {
  return check(split(text));
}

interface Fields {
  readonly values: Map<string, string>;
  readonly flags: Set<string>;
}

function split(text: string): Fields {
  const fields: Fields = { values: new Map(), flags: new Set() };
  const places = [...POSITIONS] as string[];
  for (let rest = text.trimStart(); ; ) {
    const named = /^target=(.*)$/s.exec(rest);
    if (named !== null) {
      set(fields, "target", named[1]!);
      return fields;
    }
    const comma = rest.indexOf(",");
    const part = (comma === -1 ? rest : rest.slice(0, comma)).trimEnd();
    take(fields, places, part);
    if (comma === -1) return fields;
    rest = rest.slice(comma + 1).trimStart();
  }
}

function take(fields: Fields, places: string[], part: string): void {
  const equals = part.indexOf("=");
  if (equals !== -1) return set(fields, part.slice(0, equals), part.slice(equals + 1));
  if (["cdrom", "discard", "no-discard", "untrusted", ...FLAGS_WITHOUT_EFFECT].includes(part)) {
    fields.flags.add(part);
    return;
  }
  while (places.length > 0 && fields.values.has(places[0]!)) places.shift();
  const place = places.shift();
  if (place === undefined) throw new Complaint(`has ${JSON.stringify(part)} behind its access, expected nothing`);
  if (place === "target") setOldTarget(fields, part);
  else set(fields, place, part);
}

function set({ values }: Fields, key: string, value: string): void {
  if (!KEYS.includes(key)) throw new Complaint(`has ${key}=, expected one of ${KEYS.join(", ")}`);
  // An empty value leaves the default in force, and may be followed by another.
  if ((values.get(key) ?? "") !== "") throw new Complaint(`has two values for ${key}, expected one`);
  values.set(key, value);
}

/** Older configurations put the format, and words that are ignored today, in front of the target. */
function setOldTarget(fields: Fields, part: string): void {
  const stripped = part.replace(PREFIXES_STRIPPED, "");
  const format = PREFIXES_OF_FORMAT.exec(stripped)?.[1];
  set(fields, "target", format === undefined ? stripped : stripped.slice(format.length + 1));
  // In that syntax vdev comes right behind the target.
  if (format !== undefined) set(fields, "format", format);
  else if (stripped !== part) set(fields, "format", "raw");
}

function check({ values, flags }: Fields): DiskSpec {
  const get = (key: string): string | undefined => values.get(key) || undefined;
  const { target, vdev } = { target: get("target"), vdev: get("vdev") };
  const format = get("format") ?? "raw";
  const access = get("access") ?? "rw";
  if (target === undefined) throw new Complaint("has no target, expected the path of a file");
  if (target.includes("\0")) throw new Complaint("has a target with a NUL in it, expected the path of a file");
  if (!(DISK_FORMATS as readonly string[]).includes(format)) {
    throw new Complaint(`has format ${JSON.stringify(format)}, expected one of ${DISK_FORMATS.join(", ")}`);
  }
  if (vdev === undefined) throw new Complaint("has no vdev, expected the guest's name for it, such as xvda");
  const devid = vdevNumber(vdev);
  if (devid === undefined) throw new Complaint(`has vdev ${JSON.stringify(vdev)}, expected a name such as xvda`);
  if (!Object.hasOwn(ACCESS, access)) throw new Complaint(`has access ${JSON.stringify(access)}, expected ro or rw`);
  refuseWhatIsElsewhere(get, flags);
  return {
    target,
    format: format as DiskFormat,
    vdev,
    devid,
    readOnly: ACCESS[access]!,
    discard: !flags.has("no-discard"),
    ...amount(get("bps"), "bps", "bytesPerSecond"),
    ...amount(get("iops"), "iops", "requestsPerSecond"),
    ...amount(get("burst"), "burst", "burstSeconds"),
  };
}

function refuseWhatIsElsewhere(get: (key: string) => string | undefined, flags: ReadonlySet<string>): void {
  if (flags.has("cdrom") || get("devtype") === "cdrom") {
    throw new Complaint("is a cdrom, which PVH guests have no driver for; expected a disk with access=ro");
  }
  if (flags.has("untrusted")) throw new Complaint("is untrusted, which is not supported yet");
  for (const [key, only] of [
    ["backend", "0"],
    ["backendtype", "qdisk"],
    ["specification", "xen"],
    ["devtype", "disk"],
  ]) {
    const value = get(key!);
    if (
      value !== undefined &&
      value !== only &&
      !(key === "backend" && value === "Domain-0") &&
      !(key === "backendtype" && value === "phy")
    ) {
      throw new Complaint(`has ${key}=${value}, which is not supported yet`);
    }
  }
  if (get("script") !== undefined) throw new Complaint("has a script, which is not supported yet");
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, g: 1e9 };

function amount<K extends string>(text: string | undefined, key: string, name: K): Partial<Record<K, number>> {
  if (text === undefined) return {};
  const match = /^(\d+(?:\.\d+)?)([kmg]?)$/i.exec(text);
  const value = match === null ? 0 : Number(match[1]) * UNITS[match[2]!.toLowerCase()]!;
  if (!(value > 0)) throw new Complaint(`has ${key}=${text}, expected a number above 0, perhaps with K, M or G`);
  return { [name]: value } as Partial<Record<K, number>>;
}

/** The disk in the words of xl.cfg. */
export function describeDisk(disk: DiskSpec): string {
  const { target, format, vdev, readOnly, discard, bytesPerSecond, requestsPerSecond, burstSeconds } = disk;
  const parts = [`format=${format}`, `vdev=${vdev}`, `access=${readOnly ? "ro" : "rw"}`];
  if (!discard) parts.push("no-discard");
  if (bytesPerSecond !== undefined) parts.push(`bps=${bytesPerSecond}`);
  if (requestsPerSecond !== undefined) parts.push(`iops=${requestsPerSecond}`);
  if (burstSeconds !== undefined) parts.push(`burst=${burstSeconds}`);
  return [...parts, `target=${target}`].join(",");
}

const readEach = listOf("a string", parseDisk);

export const readDisks: Reader<DiskSpec[]> = (value) => {
  const disks = readEach(value);
  const seen = new Map<number, DiskSpec>();
  for (const disk of disks) {
    const other = seen.get(disk.devid);
    if (other !== undefined) throw new Complaint(`has ${disk.vdev} twice, for ${other.target} and ${disk.target}`);
    seen.set(disk.devid, disk);
  }
  return disks;
};

/** Under which an image store keeps what a domain wrote on an image. */
export const overlayName = (domain: string, vdev: string): string => `${domain}-${vdev}`;

/** The name of an image that a snapshot made of a disk. */
export const keptDiskName = (domain: string, vdev: string, id: string): string => `${domain}-${vdev}:snapshot-${id}`;
export const KEPT_DISK = /:snapshot-[0-9a-f]{8}$/;
