/**
 * Instructions that every Linux comes to execute while it boots, one sample for each handler: their handlers are part of the engine's module
 * from the start. Taken from boots of three Debian kernels to a shell and some commands in it; those of the dispatch loop are left out.
 */
export const COMMON_INSTRUCTIONS: readonly string[] = [
  "80d300", // ADC gpr1,imm1
  "11ca", // ADC gpr4,gpr4
  "83d600", // ADC gpr4,imm4
  "13560c", // ADC gpr4,mem4
  "1374070c", // ADC gpr4,mem4 indexed
  "15ffff0000", // ADC gpr4=eAX,imm4
  "49137808", // ADC gpr8,mem8
  "8354246000", // ADC mem4,imm4
  "00cb", // ADD gpr1,gpr1
  "80c2ff", // ADD gpr1,imm1
  "0210", // ADD gpr1,mem1
  "021403", // ADD gpr1,mem1 indexed
  "6601ce", // ADD gpr2,gpr2
  "6681c1000a", // ADD gpr2,imm2
  "660306", // ADD gpr2,mem2
  "6603040a", // ADD gpr2,mem2 indexed
  "80450501", // ADD mem1,imm1
  "66016810", // ADD mem2,gpr2
  "6642018487a40a0000", // ADD mem2,gpr2 indexed
  "6683800801000001", // ADD mem2,imm2
  "66838491bc00000001", // ADD mem2,imm2 indexed
  "015d70", // ADD mem4,gpr4
  "01140b", // ADD mem4,gpr4 indexed
  "f044017334", // ADD mem4,gpr4 locked
  "4183049401", // ADD mem4,imm4 indexed
  "f0834424fc00", // ADD mem4,imm4 locked
  "480154c310", // ADD mem8,gpr8 indexed
  "f048010417", // ADD mem8,gpr8 indexed locked
  "f04801864095a082", // ADD mem8,gpr8 locked
  "498384c15001000001", // ADD mem8,imm8 indexed
  "f04883474801", // ADD mem8,imm8 locked
  "f20f58c8", // ADDSD xmm8,xmm8
  "20d0", // AND gpr1,gpr1
  "80e702", // AND gpr1,imm1
  "4322043c", // AND gpr1,mem1 indexed
  "2403", // AND gpr1=AL,imm1
  "6683e003", // AND gpr2,imm2
  "662317", // AND gpr2,mem2
  "662500b0", // AND gpr2=eAX,imm2
  "234f08", // AND gpr4,mem4
  "23449418", // AND gpr4,mem4 indexed
  "48234520", // AND gpr8,mem8
  "49233cf2", // AND gpr8,mem8 indexed
  "2003", // AND mem1,gpr1
  "806355fe", // AND mem1,imm1
  "8064034901", // AND mem1,imm1 indexed
  "f0806500fb", // AND mem1,imm1 locked
  "662103", // AND mem2,gpr2
  "6643211478", // AND mem2,gpr2 indexed
  "6681635420fe", // AND mem2,imm2
  "41214508", // AND mem4,gpr4
  "83256e3699fffe", // AND mem4,imm4
  "65816500ffffff7f", // AND mem4,imm4 indexed
  "482110", // AND mem8,gpr8
  "482104d7", // AND mem8,gpr8 indexed
  "488320fe", // AND mem8,imm8
  "4a8324f300", // AND mem8,imm8 indexed
  "f0498327f8", // AND mem8,imm8 locked
  "0fbcdd", // BSF gpr4,gpr4
  "440fbc6008", // BSF gpr4,mem4
  "f3480fbcc9", // BSF gpr8,gpr8
  "f3480fbc8748020000", // BSF gpr8,mem8
  "0fbdc2", // BSR gpr4,gpr4
  "0fbd742408", // BSR gpr4,mem4
  "480fbdc3", // BSR gpr8,gpr8
  "4c0fbd35b0bde702", // BSR gpr8,mem8
  "480fbd04d6", // BSR gpr8,mem8 indexed
  "0fa3f8", // BT gpr4,gpr4
  "0fbae714", // BT gpr4,imm1
  "480fa3c2", // BT gpr8,gpr8
  "0fba64240c0a", // BT mem4,imm1
  "480fa310", // BT mem8,gpr8
  "480fa3043a", // BT mem8,gpr8 indexed
  "480fbaa550ffffff20", // BT mem8,imm1
  "0fb3c1", // BTR gpr4,gpr4
  "0fbaf202", // BTR gpr4,imm1
  "4c0fb3ed", // BTR gpr8,gpr8
  "480fbaf03f", // BTR gpr8,imm1
  "480fb317", // BTR mem8,gpr8
  "f0490fb36c2428", // BTR mem8,gpr8 locked
  "f0480fba3318", // BTR mem8,imm1 locked
  "0fbae800", // BTS gpr4,imm1
  "490fabd1", // BTS gpr8,gpr8
  "480fbaee3f", // BTS gpr8,imm1
  "480fab2c24", // BTS mem8,gpr8
  "f0480fab10", // BTS mem8,gpr8 locked
  "f0480fba2cc50081048400", // BTS mem8,imm1 indexed locked
  "f0480fba2a00", // BTS mem8,imm1 locked
  "43ff14fe", // CALL indirect mem8 indexed
  "0f01ca", // CLAC
  "fc", // CLD
  "0f47442404", // CMOVA gpr4,mem4
  "4c0f47fa", // CMOVA gpr8,gpr8
  "480f436c2460", // CMOVAE gpr8,mem8
  "0f4205ba419101", // CMOVB gpr4,mem4
  "4c0f426c2410", // CMOVB gpr8,mem8
  "0f46d8", // CMOVBE gpr4,gpr4
  "490f46ef", // CMOVBE gpr8,gpr8
  "0f44352834a902", // CMOVE gpr4,mem4
  "480f44c2", // CMOVE gpr8,gpr8
  "480f44442428", // CMOVE gpr8,mem8
  "480f4fc8", // CMOVG gpr8,gpr8
  "0f4dce", // CMOVGE gpr4,gpr4
  "480f4dd3", // CMOVGE gpr8,gpr8
  "0f4cc2", // CMOVL gpr4,gpr4
  "480f4cf0", // CMOVL gpr8,gpr8
  "0f4ec3", // CMOVLE gpr4,gpr4
  "0f4e442470", // CMOVLE gpr4,mem4
  "480f4ed1", // CMOVLE gpr8,gpr8
  "0f45f7", // CMOVNE gpr4,gpr4
  "0f450424", // CMOVNE gpr4,mem4
  "480f45c1", // CMOVNE gpr8,gpr8
  "480f450d3ffb7101", // CMOVNE gpr8,mem8
  "0f49c2", // CMOVNS gpr4,gpr4
  "480f49ca", // CMOVNS gpr8,gpr8
  "4c0f49642408", // CMOVNS gpr8,mem8
  "0f48d0", // CMOVS gpr4,gpr4
  "6683f8ff", // CMP gpr2,imm2
  "663b4802", // CMP gpr2,mem2
  "663d8680", // CMP gpr2=eAX,imm2
  "3b048b", // CMP gpr4,mem4 indexed
  "483b7cc708", // CMP gpr8,mem8 indexed
  "803c130a", // CMP mem1,imm1 indexed
  "66394728", // CMP mem2,gpr2
  "66390c02", // CMP mem2,gpr2 indexed
  "66833c10ff", // CMP mem2,imm2 indexed
  "393c0e", // CMP mem4,gpr4 indexed
  "833c021f", // CMP mem4,imm4 indexed
  "48393401", // CMP mem8,gpr8 indexed
  "48833c0200", // CMP mem8,imm8 indexed
  "650fb00f", // CMPXCHG mem1,gpr1 indexed
  "f00fb017", // CMPXCHG mem1,gpr1 locked
  "f066410fb16d00", // CMPXCHG mem2,gpr2 locked
  "650fb117", // CMPXCHG mem4,gpr4 indexed
  "f00fb117", // CMPXCHG mem4,gpr4 locked
  "65480fb11db50dd47e", // CMPXCHG mem8,gpr8
  "f0480fb13cf5205bc482", // CMPXCHG mem8,gpr8 indexed locked
  "f0480fb113", // CMPXCHG mem8,gpr8 locked
  "65480fc70f", // CMPXCHG16B mem16 indexed
  "f0480fc74d20", // CMPXCHG16B mem16 locked
  "660f2fc1", // COMISD xmm8,xmm8
  "f2480f2ac0", // CVTSI2SD xmm8,gpr8
  "f2480f2cc0", // CVTTSD2SI gpr8,xmm8
  "99", // CWD
  "4899", // CWD
  "fec8", // DEC gpr1
  "48ffc8", // DEC gpr8
  "65ff08", // DEC mem4 indexed
  "f0ff0b", // DEC mem4 locked
  "48ff0b", // DEC mem8
  "6548ff08", // DEC mem8 indexed
  "f04aff0c10", // DEC mem8 indexed locked
  "f048ff0f", // DEC mem8 locked
  "f7f3", // DIV gpr4
  "49f7f2", // DIV gpr8
  "f775dc", // DIV mem4
  "dbe3", // FNINIT
  "9b", // FWAIT
  "0fae053ff61200", // FXSAVE mem4
  "480fae05b7fe38ff", // FXSAVE mem8
  "f7fe", // IDIV gpr4
  "49f7fa", // IDIV gpr8
  "f77c2408", // IDIV mem4
  "48f77c2418", // IDIV mem8
  "0faff6", // IMUL gpr4,gpr4
  "6bd2c0", // IMUL gpr4,gpr4,imm4
  "0faf5318", // IMUL gpr4,mem4
  "460faf6c8c18", // IMUL gpr4,mem4 indexed
  "6b3714", // IMUL gpr4,mem4,imm4
  "48f7ee", // IMUL gpr8
  "486bc014", // IMUL gpr8,gpr8,imm8
  "480faf157fc8e602", // IMUL gpr8,mem8
  "480faf1401", // IMUL gpr8,mem8 indexed
  "48691c24c88f0000", // IMUL gpr8,mem8,imm8
  "fec0", // INC gpr1
  "fe0558f20b00", // INC mem1
  "66ff81a4130000", // INC mem2
  "65ff00", // INC mem4 indexed
  "f043ff448f38", // INC mem4 indexed locked
  "f0ff4360", // INC mem4 locked
  "48ff03", // INC mem8
  "6548ff4218", // INC mem8 indexed
  "f048ff4220", // INC mem8 locked
  "0f013f", // INVLPG mem4
  "48cf", // IRET
  "ffe0", // JMP indirect gpr8
  "ff25ba0d1e00", // JMP indirect mem8
  "ff24d0", // JMP indirect mem8 indexed
  "7053", // JO rel8
  "0fae542404", // LDMXCSR mem4
  "c9", // LEAVE
  "0faee8", // LFENCE
  "668ce0", // MOV Sreg gpr2,sreg2
  "88d5", // MOV gpr1,gpr1
  "6689f0", // MOV gpr2,gpr2
  "66bf0100", // MOV gpr2,imm2
  "c6041100", // MOV mem1,imm1 indexed
  "66c704247f00", // MOV mem2,imm2
  "66c74410fe0000", // MOV mem2,imm2 indexed
  "c7048300000000", // MOV mem4,imm4 indexed
  "48c704c300000000", // MOV mem8,imm8 indexed
  "0f2900", // MOVAPS mem16,xmm16
  "0f290431", // MOVAPS mem16,xmm16 indexed
  "66440f6f25a54a2b01", // MOVAPS xmm16,mem16
  "660f6f0417", // MOVAPS xmm16,mem16 indexed
  "660f7ec0", // MOVD gpr4,xmm4
  "66480f7ec6", // MOVD gpr8,xmm8
  "66440f6ef9", // MOVD xmm16,gpr4
  "66480f6ec7", // MOVD xmm16,gpr8
  "660f6e442464", // MOVD xmm16,mem4
  "410f164008", // MOVHPS xmm16,mem8
  "660fd605489f1d00", // MOVQ mem8,xmm8
  "f30f7e442408", // MOVQ xmm16,mem8
  "a4", // MOVS
  "66a5", // MOVS wide
  "f3a5", // MOVS wide  rep
  "f348a5", // MOVS wide  rep
  "f20f114c2408", // MOVSD mem8,xmm8
  "f20f104c2408", // MOVSD xmm16,mem8
  "66410fbe451a", // MOVSX gpr2,mem1
  "0fbfc9", // MOVSX gpr4,gpr2
  "0fbe5001", // MOVSX gpr4,mem1
  "0fbe0c16", // MOVSX gpr4,mem1 indexed
  "0fbf00", // MOVSX gpr4,mem2
  "0fbf840060c6a382", // MOVSX gpr4,mem2 indexed
  "480fbec0", // MOVSX gpr8,gpr1
  "490fbff6", // MOVSX gpr8,gpr2
  "480fbe10", // MOVSX gpr8,mem1
  "65480fbe01", // MOVSX gpr8,mem1 indexed
  "480fbf474a", // MOVSX gpr8,mem2
  "f30f7f07", // MOVUPS mem16,xmm16
  "0f117c17f0", // MOVUPS mem16,xmm16 indexed
  "f30f6f140e", // MOVUPS xmm16,mem16 indexed
  "4c0fb64601", // MOVZX gpr8,mem1
  "4c0fb60c16", // MOVZX gpr8,mem1 indexed
  "f7e7", // MUL gpr4
  "48f7e2", // MUL gpr8
  "48f72424", // MUL mem8
  "49f724d2", // MUL mem8 indexed
  "f20f59057f230200", // MULSD xmm8,mem8
  "f6d8", // NEG gpr1
  "66f7d8", // NEG gpr2
  "f30f1efa", // NOP gpr4
  "660f1f00", // NOP mem2
  "660f1f440000", // NOP mem2 indexed
  "08c1", // OR gpr1,gpr1
  "80cc01", // OR gpr1,imm1
  "0a442414", // OR gpr1,mem1
  "0c80", // OR gpr1=AL,imm1
  "6681cdf540", // OR gpr2,imm2
  "660b8d20150000", // OR gpr2,mem2
  "660d0080", // OR gpr2=eAX,imm2
  "0d00000080", // OR gpr4=eAX,imm4
  "4883c8ff", // OR gpr8,imm8
  "4c0b04c2", // OR gpr8,mem8 indexed
  "480d00001000", // OR gpr8=eAX,imm8
  "08442417", // OR mem1,gpr1
  "44083431", // OR mem1,gpr1 indexed
  "804d0420", // OR mem1,imm1
  "f0804b4f02", // OR mem1,imm1 locked
  "660905d010b9ff", // OR mem2,gpr2
  "66834f4820", // OR mem2,imm2
  "098388000000", // OR mem4,gpr4
  "093487", // OR mem4,gpr4 indexed
  "834b5402", // OR mem4,imm4
  "f083486404", // OR mem4,imm4 locked
  "48094568", // OR mem8,gpr8
  "4a093c1b", // OR mem8,gpr8 indexed
  "48830801", // OR mem8,imm8
  "48834c190801", // OR mem8,imm8 indexed
  "f048830b02", // OR mem8,imm8 locked
  "660ffcf9", // PADDB xmm16,xmm16
  "66450fd4f7", // PADDQ xmm16,xmm16
  "660f3a0f4417f00b", // PALIGNR xmm16,mem16,imm1 indexed
  "660fdb0431", // PAND xmm16,mem16 indexed
  "660fdbc1", // PAND xmm16,xmm16
  "660fdf0c01", // PANDN xmm16,mem16 indexed
  "660fdffe", // PANDN xmm16,xmm16
  "660f740f", // PCMPEQB xmm16,mem16
  "660f76c0", // PCMPEQD xmm16,xmm16
  "660f64fd", // PCMPGTB xmm16,xmm16
  "660f3a632702", // PCMPISTRI xmm16,mem16,imm1
  "660f3a6304161a", // PCMPISTRI xmm16,mem16,imm1 indexed
  "660f3a63c802", // PCMPISTRI xmm16,xmm16,imm1
  "660fded8", // PMAXUB xmm16,xmm16
  "660fda2f", // PMINUB xmm16,mem16
  "660fdaea", // PMINUB xmm16,xmm16
  "f30fb8c7", // POPCNT gpr4,gpr4
  "f3480fb8c7", // POPCNT gpr8,gpr8
  "9d", // POPF
  "66420feb84b490280000", // POR xmm16,mem16 indexed
  "66410febc8", // POR xmm16,xmm16
  "66410f3800dc", // PSHUFB xmm16,xmm16
  "660f70c093", // PSHUFD xmm16,xmm16,imm1
  "66410f72f014", // PSLLD xmm16,imm1
  "660f73fa05", // PSLLDQ xmm16,imm1
  "660f72d10c", // PSRLD xmm16,imm1
  "660f73d808", // PSRLDQ xmm16,imm1
  "660ff8c8", // PSUBB xmm16,xmm16
  "660f6ac0", // PUNPCKHDQ xmm16,xmm16
  "660f60c9", // PUNPCKLBW xmm16,xmm16
  "660f62e5", // PUNPCKLDQ xmm16,xmm16
  "660f6ce6", // PUNPCKLQDQ xmm16,xmm16
  "660f61c9", // PUNPCKLWD xmm16,xmm16
  "ff742420", // PUSH mem8
  "42ff34e5c01f2183", // PUSH mem8 indexed
  "660fef1d4c4a2b01", // PXOR xmm16,mem16
  "f3480faec0", // RDFSBASE gpr8
  "f3480faec8", // RDGSBASE gpr8
  "0f31", // RDTSC
  "0f01f9", // RDTSCP
  "c0c004", // ROL gpr1,imm1
  "66c1c208", // ROL gpr2,imm1
  "d3c0", // ROL gpr4,gpr1=CL
  "48d3c0", // ROL gpr8,gpr1=CL
  "48c1c70c", // ROL gpr8,imm1
  "66c1ca04", // ROR gpr2,imm1
  "48c1c813", // ROR gpr8,imm1
  "66c1fa07", // SAR gpr2,imm1
  "d3f8", // SAR gpr4,gpr1=CL
  "48d3f8", // SAR gpr8,gpr1=CL
  "d07b02", // SAR mem1,imm1
  "66d17d10", // SAR mem2,imm1
  "18c9", // SBB gpr1,gpr1
  "80daff", // SBB gpr1,imm1
  "6619c0", // SBB gpr2,gpr2
  "6683d9ff", // SBB gpr2,imm2
  "83d9ff", // SBB gpr4,imm4
  "4819d2", // SBB gpr8,gpr8
  "4883daff", // SBB gpr8,imm8
  "0f97c0", // SETA gpr1
  "0f93c1", // SETAE gpr1
  "0f9344241e", // SETAE mem1
  "0f92442417", // SETB mem1
  "0f96c0", // SETBE gpr1
  "0f9444241b", // SETE mem1
  "410f94441f0e", // SETE mem1 indexed
  "0f9fc0", // SETG gpr1
  "0f9f430f", // SETG mem1
  "0f9f842a16010000", // SETG mem1 indexed
  "0f9dc0", // SETGE gpr1
  "0f9cc0", // SETL gpr1
  "0f9c442410", // SETL mem1
  "0f9ec2", // SETLE gpr1
  "0f9e442427", // SETLE mem1
  "0f90c0", // SETO gpr1
  "400f98c5", // SETS gpr1
  "480fa4c201", // SHLD gpr8,gpr8,imm1
  "66c1ea06", // SHR gpr2,imm1
  "d06e19", // SHR mem1,imm1
  "d16a48", // SHR mem4,imm1
  "48d36c2408", // SHR mem8,gpr1=CL
  "480fadd0", // SHRD gpr8,gpr8,gpr1=CL
  "480facd020", // SHRD gpr8,gpr8,imm1
  "0f01cb", // STAC
  "f3aa", // STOS  rep
  "f3ab", // STOS wide  rep
  "f366ab", // STOS wide  rep
  "28d1", // SUB gpr1,gpr1
  "412a421b", // SUB gpr1,mem1
  "2c01", // SUB gpr1=AL,imm1
  "6681ea0004", // SUB gpr2,imm2
  "662b6c2414", // SUB gpr2,mem2
  "662d1f02", // SUB gpr2=eAX,imm2
  "492b14f9", // SUB gpr8,mem8 indexed
  "802b01", // SUB mem1,imm1
  "6642832c7801", // SUB mem2,imm2 indexed
  "294504", // SUB mem4,gpr4
  "f044297334", // SUB mem4,gpr4 locked
  "83ac84a800000001", // SUB mem4,imm4 indexed
  "f0816f0401000080", // SUB mem4,imm4 locked
  "48295310", // SUB mem8,gpr8
  "f048294228", // SUB mem8,gpr8 locked
  "49832c2401", // SUB mem8,imm8
  "4983acc65001000001", // SUB mem8,imm8 indexed
  "f048832801", // SUB mem8,imm8 locked
  "f20f5cc1", // SUBSD xmm8,xmm8
  "0f01f8", // SWAPGS
  "0f05", // SYSCALL
  "480f07", // SYSRET
  "6685ff", // TEST gpr2,gpr2
  "66f7c2fffe", // TEST gpr2,imm2
  "66a9fdff", // TEST gpr2=eAX,imm2
  "48f7c79fffffff", // TEST gpr8,imm8
  "48a9fdffffff", // TEST gpr8=eAX,imm8
  "84542407", // TEST mem1,gpr1
  "f644101080", // TEST mem1,imm1 indexed
  "66f7060004", // TEST mem2,imm2
  "6566f74301ffff", // TEST mem2,imm2 indexed
  "85702c", // TEST mem4,gpr4
  "48854740", // TEST mem8,gpr8
  "49f704249fffffff", // TEST mem8,imm8
  "f3480faed0", // WRFSBASE gpr8
  "f3480faedf", // WRGSBASE gpr8
  "65410fc0471a", // XADD mem1,gpr1 indexed
  "6566440fc135fb69fa7e", // XADD mem2,gpr2
  "6566410fc14012", // XADD mem2,gpr2 indexed
  "650fc115bd21ce7e", // XADD mem4,gpr4
  "f00fc1441720", // XADD mem4,gpr4 indexed locked
  "f00fc110", // XADD mem4,gpr4 locked
  "480fc110", // XADD mem8,gpr8
  "f0480fc10439", // XADD mem8,gpr8 indexed locked
  "f0480fc107", // XADD mem8,gpr8 locked
  "86e0", // XCHG gpr1,gpr1
  "91", // XCHG gpr4,gpr4=eAX
  "4887f7", // XCHG gpr8,gpr8
  "4893", // XCHG gpr8,gpr8=eAX
  "86435f", // XCHG mem1,gpr1
  "6641874502", // XCHG mem2,gpr2
  "8710", // XCHG mem4,gpr4
  "48871f", // XCHG mem8,gpr8
  "488714c55074f883", // XCHG mem8,gpr8 indexed
  "30c0", // XOR gpr1,gpr1
  "4080f780", // XOR gpr1,imm1
  "3206", // XOR gpr1,mem1
  "32140e", // XOR gpr1,mem1 indexed
  "34ff", // XOR gpr1=AL,imm1
  "6631ff", // XOR gpr2,gpr2
  "663306", // XOR gpr2,mem2
  "66338409c00b0c82", // XOR gpr2,mem2 indexed
  "3342e0", // XOR gpr4,mem4
  "35696e6549", // XOR gpr4=eAX,imm4
  "4883f0ff", // XOR gpr8,imm8
  "48330cc6", // XOR gpr8,mem8 indexed
  "483500000000", // XOR gpr8=eAX,imm8
  "3008", // XOR mem1,gpr1
  "80755006", // XOR mem1,imm1
  "80340236", // XOR mem1,imm1 indexed
  "f0803301", // XOR mem1,imm1 locked
  "8374241001", // XOR mem4,imm4
  "0f57c0", // XORPS xmm16,xmm16
  "480fae2f", // XRSTOR mem8
  "480fae27", // XSAVE mem8
];
