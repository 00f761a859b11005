/** @see xen/include/public/hvm/hvm_op.h, hvm/params.h */
export const HvmOp = {
  set_param: 0,
  get_param: 1,
  flush_tlbs: 5,
  pagetable_dying: 9,
  get_time: 10,
  get_mem_type: 15,
  set_evtchn_upcall_vector: 23,
} as const;

export const HvmParam = {
  CALLBACK_IRQ: 0,
  STORE_PFN: 1,
  STORE_EVTCHN: 2,
  PAE_ENABLED: 4,
  IOREQ_PFN: 5,
  BUFIOREQ_PFN: 6,
  TIMER_MODE: 10,
  IDENT_PT: 12,
  VM86_TSS: 15,
  CONSOLE_PFN: 17,
  CONSOLE_EVTCHN: 18,
  TRIPLE_FAULT_REASON: 31,
} as const;
export const HVM_NR_PARAMS = 39;

/** Bits 63:56 of HVM_PARAM_CALLBACK_IRQ. */
export const CallbackVia = { gsi: 0, pci_intx: 1, vector: 2 } as const;

export const HvmMemType = { ram_rw: 0, ram_ro: 1, mmio_dm: 2 } as const;

export const XEN_HVM_DEBUGCONS_IOPORT = 0xe9;
