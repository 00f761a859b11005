/** Which place a reference names. */
import { existsSync } from "node:fs";
import { openPath } from "./archive-place.ts";
import type { OciImage } from "./image-spec.ts";
import { openRegistry, type RegistryOptions } from "./registry.ts";

/**
 * Opens an image.
 * @param reference  oci:PATH or oci:PATH:TAG for folders and archives; oci:HOST/NAME or docker://HOST/NAME, with :TAG or @DIGEST,
 *                   for a registry; or the path of an archive
 * @throws OciError
 */
export function openOci(reference: string, options: RegistryOptions = {}): Promise<OciImage> {
  const remote = /^(?:oci|docker):\/\/(.+)$/.exec(reference)?.[1];
  if (remote !== undefined) return openRegistry(remote, options);
  const rest = reference.replace(/^(?:oci|docker-archive|oci-archive):/, "");
  if (existsSync(rest)) return openPath(rest);
  const tagged = /^(.+?):([^:/][^/]*(?:\/.*)?)$/.exec(rest);
  if (tagged !== null && existsSync(tagged[1]!)) return openPath(tagged[1]!, tagged[2]);
  const looksLocal = rest.startsWith(".") || rest.startsWith("/") || /\.(tar|oci)$/.test(rest);
  return looksLocal ? openPath(rest) : openRegistry(rest, options);
}
