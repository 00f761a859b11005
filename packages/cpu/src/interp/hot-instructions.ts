/**
 * Instructions whose handlers lie inside the dispatch loop, most frequent first: one sample for each handler, taken from
 * profiles of Linux booting and of programs in it. The order does not matter to the loop.
 */
export const HOT_INSTRUCTIONS: readonly string[] = [
  "7517", // JNE rel8
  "4989e6", // MOV gpr8,gpr8
  "7420", // JE rel8
  "81c300010000", // ADD gpr4,imm4
  "0fb603", // MOVZX gpr4,mem1
  "84d2", // TEST gpr1,gpr1
  "4883c708", // ADD gpr8,imm8
  "65488b042528000000", // MOV gpr8,mem8
  "4801f8", // ADD gpr8,gpr8
  "e9ab68d900", // JMP rel8
  "4839ca", // CMP gpr8,gpr8
  "4156", // PUSH gpr8
  "4863c9", // MOVSXD gpr8,gpr4
  "5b", // POP gpr8
  "c3", // RET
  "e8ac3501fe", // CALL rel8
  "79e2", // JNS rel8
  "39c6", // CMP gpr4,gpr4
  "85c0", // TEST gpr4,gpr4
  "4889442410", // MOV mem8,gpr8
  "31d2", // XOR gpr4,gpr4
  "3c03", // CMP gpr1=AL,imm1
  "0f1f440000", // NOP mem4
  "488d05d3770502", // LEA gpr8,mem8
  "89c7", // MOV gpr4,gpr4
  "b9010100c0", // MOV gpr4,imm4
  "803d4c908f0100", // CMP mem1,imm1
  "418b00", // MOV gpr4,mem4
  "4885d2", // TEST gpr8,gpr8
  "7302", // JAE rel8
  "488d04c3", // LEA gpr8,mem8
  "4883fa07", // CMP gpr8,imm8
  "4829d0", // SUB gpr8,gpr8
  "0f82d2000000", // JB rel8
  "49c1fa30", // SAR gpr8,imm1
  "48c1ea20", // SHR gpr8,imm1
  "83f801", // CMP gpr4,imm4
  "f60001", // TEST mem1,imm1
  "0fb6040f", // MOVZX gpr4,mem1
  "486333", // MOVSXD gpr8,mem4
  "c605cf3834ff01", // MOV mem1,imm1
  "3a1406", // CMP gpr1,mem1
  "880579130b00", // MOV mem1,gpr1
  "4883ec18", // SUB gpr8,imm8
  "891c24", // MOV mem4,gpr4
  "83e020", // AND gpr4,imm4
  "48031566110b00", // ADD gpr8,mem8
  "77e6", // JA rel8
  "48c1e230", // SHL gpr8,imm1
  "48c7c7f4c52c82", // MOV gpr8,imm8
  "0fb6c0", // MOVZX gpr4,gpr1
  "7675", // JBE rel8
  "48c7053be00b00ce3c0583", // MOV mem8,imm8
  "80fa7e", // CMP gpr1,imm1
  "483907", // CMP mem8,gpr8
  "48f7d2", // NOT gpr8
  "4a63740340", // MOVSXD gpr8,mem4
  "480f43c3", // CMOVAE gpr8,gpr8
  "83e870", // SUB gpr4,imm4
  "4c0f42f0", // CMOVB gpr8,gpr8
  "19c0", // SBB gpr4,gpr4
  "c705903634ff02000000", // MOV mem4,imm4
  "0fbec0", // MOVSX gpr4,gpr1
  "4981e40000e0ff", // AND gpr8,imm8
  "39460c", // CMP mem4,gpr4
  "458d5501", // LEA gpr4,mem4
  "448b4416fc", // MOV gpr4,mem4
  "480500000080", // ADD gpr8=eAX,imm8
  "81c9a0000000", // OR gpr4,imm4
  "4429c0", // SUB gpr4,gpr4
  "0fb78c3600981182", // MOVZX gpr4,mem2
  "482b054d97a101", // SUB gpr8,mem8
  "4821c2", // AND gpr8,gpr8
  "4809d0", // OR gpr8,gpr8
  "48833800", // CMP mem8,imm8
  "f6c410", // TEST gpr1,imm1
  "0f1f00", // NOP mem4
  "f7c600020000", // TEST gpr4,imm4
  "4c8b5416f0", // MOV gpr8,mem8
  "01c8", // ADD gpr4,gpr4
  "ff05d87e0a00", // INC mem4
  "ff0daa7e0a00", // DEC mem4
  "c1e808", // SHR gpr4,imm1
  "ffc9", // DEC gpr4
  "0f8eb9030000", // JLE rel8
  "4038fe", // CMP gpr1,gpr1
  "48bb00000000000011ff", // MOV gpr8,imm8wide
  "9c", // PUSHF
  "833d8c110b0000", // CMP mem4,imm4
  "90", // NOP
  "410f94c6", // SETE gpr1
  "483b3ddcb28c01", // CMP gpr8,mem8
  "8cd0", // MOV Sreg gpr4,sreg2
  "a804", // TEST gpr1=AL,imm1
  "f348ab", // STOS wide
  "44894417fc", // MOV mem4,gpr4
  "4831f7", // XOR gpr8,gpr8
  "7803", // JS rel8
  "034f04", // ADD gpr4,mem4
  "c1e208", // SHL gpr4,imm1
  "a9ffffff7f", // TEST gpr4=eAX,imm4
  "41c1c010", // ROL gpr4,imm1
  "6690", // NOP
  "4c0faff2", // IMUL gpr8,gpr8
  "fa", // CLI
  "0fb7442408", // MOVZX gpr4,mem2
  "8d0c03", // LEA gpr4,mem4
  "480b3db5e89fff", // OR gpr8,mem8
  "0f95c0", // SETNE gpr1
  "44387314", // CMP mem1,gpr1
  "ffc6", // INC gpr4
  "4883042408", // ADD mem8,imm8
  "48d3e0", // SHL gpr8,gpr1=CL
  "490f48cc", // CMOVS gpr8,gpr8
  "ff15041b9eff", // CALL indirect mem8
  "66890424", // MOV mem2,gpr2
  "3e0fb117", // CMPXCHG mem4,gpr4
  "48f7d8", // NEG gpr8
  "6a10", // PUSH imm8
  "483d00f0ffff", // CMP gpr8=eAX,imm8
  "480fbae039", // BT gpr8,imm1
  "83430401", // ADD mem4,imm4
  "fb", // STI
  "21f7", // AND gpr4,gpr4
  "482d00000081", // SUB gpr8=eAX,imm8
  "480fce", // BSWAP gpr8
  "ffd0", // CALL indirect gpr8
  "25000ff00f", // AND gpr4=eAX,imm4
  "0f9581c000c482", // SETNE mem1
  "83a81814000001", // SUB mem4,imm4
  "480fba70c00c", // BTR mem8,imm1
  "8a151b130b00", // MOV gpr1,mem1
  "0f4fd0", // CMOVG gpr4,gpr4
  "48ffc5", // INC gpr8
  "3b1d502a9c01", // CMP gpr4,mem4
  "81f261810007", // XOR gpr4,imm4
  "7c35", // JL rel8
  "400f92c5", // SETB gpr1
  "f705d868390101000000", // TEST mem4,imm4
  "480fba2d909fa1013f", // BTS mem8,imm1
  "4898", // CBW
  "220d201e2001", // AND gpr1,mem1
  "0f44d1", // CMOVE gpr4,gpr4
  "482500f0ffff", // AND gpr8=eAX,imm8
  "488914cb", // MOV mem8,gpr8
  "48d3e8", // SHR gpr8,gpr1=CL
  "7d36", // JGE rel8
  "66833d7a8e260000", // CMP mem2,imm2
  "483383b8000000", // XOR gpr8,mem8
  "450fb7f5", // MOVZX gpr4,gpr2
];
