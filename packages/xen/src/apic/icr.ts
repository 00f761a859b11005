/** The interrupt command register: vectors, INIT and startup IPIs to other vcpus. */
import type { Domain } from "../domain/domain.ts";
import { VcpuField, VcpuLife } from "../domain/layout.ts";
import type { VcpuRecord } from "../domain/vcpu-record.ts";
import { postNmi, postVector } from "./post.ts";
import { DeliveryMode, ICR_LEVEL_ASSERT, ICR_LOGICAL, ICR_TRIGGER_LEVEL } from "./registers.ts";

/** Physical APIC id of a vcpu. */
export const apicIdOf = (vcpuId: number): number => vcpuId * 2;

/** Logical id in x2APIC mode: cluster in the high half, one bit for the place in it. */
export const x2apicLogicalId = (apicId: number): number => (((apicId >>> 4) << 16) | (1 << (apicId & 15))) >>> 0;

export interface IcrWrite {
  readonly lo: number;
  /** APIC id, or logical destination; 8 bits in xAPIC mode, 32 in x2APIC mode. */
  readonly destination: number;
  readonly x2apic: boolean;
}

/** Carries out a write to the interrupt command register by `sender`. */
export function sendIpi(domain: Domain, sender: VcpuRecord, icr: IcrWrite): void {
  const mode = (icr.lo >>> 8) & 7;
  for (const target of destinations(domain, sender, icr)) {
    switch (mode) {
      case DeliveryMode.fixed:
        postVector(target, icr.lo & 0xff);
        break;
      case DeliveryMode.lowest:
        postVector(target, icr.lo & 0xff);
        return;
      case DeliveryMode.init:
        if (!isInitDeassert(icr.lo) && target !== sender) postInit(target);
        break;
      case DeliveryMode.startup:
        if (target !== sender) postStartup(target, icr.lo & 0xff);
        break;
      case DeliveryMode.nmi:
        postNmi(target);
        break;
      default:
        // There is no system management mode to interrupt.
        break;
    }
  }
}

function isInitDeassert(lo: number): boolean {
  return (lo & ICR_TRIGGER_LEVEL) !== 0 && (lo & ICR_LEVEL_ASSERT) === 0;
}

function postInit(target: VcpuRecord): void {
  target.set(VcpuField.sipi, 0);
  target.set(VcpuField.init, 1);
  target.ring();
}

/** A startup IPI counts only for a vcpu that waits for one, or that will after an INIT it has not taken yet. */
function postStartup(target: VcpuRecord, vector: number): void {
  const waits = target.get(VcpuField.life) === VcpuLife.uninitialised || target.get(VcpuField.init) === 1;
  if (!waits) return;
  target.set(VcpuField.sipi, 0x100 | vector);
  target.ring();
}

function destinations(domain: Domain, sender: VcpuRecord, icr: IcrWrite): readonly VcpuRecord[] {
  switch ((icr.lo >>> 18) & 3) {
    case 1:
      return [sender];
    case 2:
      return domain.vcpus;
    case 3:
      return domain.vcpus.filter((vcpu) => vcpu !== sender);
    default:
      return domain.vcpus.filter((vcpu) => matches(vcpu, icr));
  }
}

function matches(vcpu: VcpuRecord, icr: IcrWrite): boolean {
  const { destination, x2apic } = icr;
  const broadcast = x2apic ? 0xffffffff : 0xff;
  if (destination === broadcast) return true;
  const id = apicIdOf(vcpu.id);
  if ((icr.lo & ICR_LOGICAL) === 0) return id === destination;
  if (x2apic) {
    const logical = x2apicLogicalId(id);
    return logical >>> 16 === destination >>> 16 && (logical & destination & 0xffff) !== 0;
  }
  const logical = vcpu.get(VcpuField.ldr) >>> 24;
  const flat = vcpu.get(VcpuField.dfr) >>> 28 === 0xf;
  if (flat) return (logical & destination) !== 0;
  return logical >>> 4 === destination >>> 4 && (logical & destination & 0xf) !== 0;
}
