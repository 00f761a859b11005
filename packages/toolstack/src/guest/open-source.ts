/** Which source of Debian packages this machine uses. */
import { AptSource, machineArchive } from "./apt.ts";
import { PackageError, type PackageSource, type Progress } from "./package-source.ts";

export interface SourceOptions {
  /** Code name of a release; default: the one the machine follows, else stable. */
  readonly suite?: string;
  /** Archive to use instead of the machine's apt. */
  readonly mirror?: string;
  readonly keyring?: string;
  readonly progress?: Progress;
}

/** @throws PackageError  there is neither apt with a Debian release nor a mirror, or the mirror cannot be used */
export async function openPackageSource({ suite, mirror, keyring, progress }: SourceOptions): Promise<PackageSource> {
  if (suite !== undefined && !/^[a-z]+$/.test(suite)) {
    throw new PackageError(`suite is ${JSON.stringify(suite)}, expected a release of Debian such as bookworm`);
  }
  if (mirror !== undefined) {
    // Loaded only here, as the OpenPGP library takes 20 MB that a running domain has no use for.
    const { MirrorSource } = await import("./mirror.ts");
    return MirrorSource.open({
      mirror,
      suite: suite ?? "stable",
      ...(keyring && { keyring }),
      ...(progress && { progress }),
    });
  }
  const archive = await machineArchive();
  if (archive !== undefined) return new AptSource(archive, suite ?? archive.suite, progress);
  throw new PackageError(
    "this machine has no apt that follows a Debian release, expected --mirror URL or XENO_DEBIAN_MIRROR with the address of a Debian archive",
  );
}
