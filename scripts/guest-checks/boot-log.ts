/** What Linux says while it boots, at the level of warnings and above. */

interface KnownWarning {
  readonly pattern: RegExp;
  /** Why it is right that Linux says so. All of these it says under Xen 4.17 too, in a PVH domain made by xl. */
  readonly reason: string;
}

export const KNOWN_WARNINGS: readonly KnownWarning[] = [
  {
    pattern: /^ACPI: No IOAPIC entries present$/,
    reason: "a PVH domain has no I/O APIC: interrupts are event channels",
  },
  { pattern: /^ACPI: setting ELCR to [0-9a-f]{4} \(from ffff\)$/, reason: "there is no legacy interrupt controller" },
  { pattern: /^cpu \d+ spinlock event irq \d+$/, reason: "printed at this level for want of another; not a fault" },
  { pattern: /^Grant table initialized$/, reason: "likewise" },
  { pattern: /^PCI: Fatal: No config space access function found$/, reason: "a PVH domain has no PCI" },
  { pattern: /^PCI: System does not support PCI$/, reason: "likewise" },
];

/** The number of a line's level in the output of `dmesg -r`; 4 is a warning, lower ones are worse. */
const WARNING = 4;

/**
 * @param raw  output of `dmesg -r`
 * @returns    warnings and errors that are not known, without level and time
 */
export function unknownWarnings(raw: string): string[] {
  return raw.split("\n").flatMap((line) => {
    const found = /^<(\d+)>\[\s*[\d.]+\] (.*)$/.exec(line.trimEnd());
    if (found === null || (Number(found[1]) & 7) > WARNING) return [];
    const message = found[2]!;
    return KNOWN_WARNINGS.some(({ pattern }) => pattern.test(message)) ? [] : [message];
  });
}
