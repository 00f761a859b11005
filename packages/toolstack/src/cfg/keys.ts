/** The keys of xl.cfg: those understood here, and those of xl that are not yet. */

/** Keys of xl that a domain may have one day. */
const NOT_YET =
  `acpi acpi_s3 acpi_s4 altp2m apic argo auto_vif_with_model_ioemu bios blkdev_start bootloader bootloader_args boot
  builder cap channel cmdline cpuid cpus cpus_soft cpu_weight cpupool device_model_args device_model_override
  device_tree devid disk dm_restrict driver_domain dtdev e820_host event_channels firmware gfx_passthru hap
  hdtype hpet iomem ioports irqs keymap localtime max_event_channels max_grant_frames max_grant_version
  max_maptrack_frames mmio_hole monitor msr_relaxed nestedhvm nographic nomigrate nx on_soft_reset
  on_watchdog pae pci pci_msitranslate pci_permissive pool pvcalls rdm rtc_timeoffset sched sdl seclabel
  serial shadow_memory smbios_firmware soundhw spice stdvga suppress_spurious_page_faults tee timer_mode tsc_mode usb
  usbctrl usbdev vcpu_hard_affinity vfb vga vgsx videoram vif viridian virtio vkb vmtrace_buf_kb vnc vnuma vpmu vsnd
  vtpm vuart xen_platform_pci xend_suspend_evtchn_compat`.split(/\s+/);

export const SUPPORTED_KEYS = [
  "name",
  "type",
  "pvshim",
  "pvshim_path",
  "pvshim_cmdline",
  "pvshim_extra",
  "kernel",
  "ramdisk",
  "cmdline",
  "extra",
  "root",
  "memory",
  "maxmem",
  "vcpus",
  "maxvcpus",
  "cap",
  "cpu_weight",
  "cpus",
  "disk",
  "vif",
  "p9",
  "uuid",
  "on_poweroff",
  "on_reboot",
  "on_crash",
] as const;

const supported: ReadonlySet<string> = new Set(SUPPORTED_KEYS);
const notYet: ReadonlySet<string> = new Set(NOT_YET.filter((key) => !supported.has(key)));

export const NOT_SUPPORTED_YET = "is not supported yet";

/** What is wrong with a key, as the second half of a sentence; undefined if it is supported. */
export function complaintAbout(key: string): string | undefined {
  if (supported.has(key)) return undefined;
  if (notYet.has(key)) return NOT_SUPPORTED_YET;
  const near = nearest(key, [...supported, ...notYet]);
  return near === undefined ? "is no key of xl.cfg" : `is no key of xl.cfg, did you mean ${near}?`;
}

/** The candidate with the fewest typing mistakes to `word`; undefined if none is close. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const allowed = Math.max(1, Math.floor(word.length / 3));
  let best: string | undefined;
  let bestDistance = allowed + 1;
  for (const candidate of candidates) {
    const distance = typingDistance(word.toLowerCase(), candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best ?? candidates.find((candidate) => word.length >= 3 && candidate.startsWith(word.toLowerCase()));
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment distance). */
function typingDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, rows[i - 2]![j - 2]! + 1);
      row.push(least);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
