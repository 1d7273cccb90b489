#include "fiber.h"

#if defined(__x86_64__)
// Six registers pushed, the stack exchanged, six popped.
asm(R"(
.pushsection .text
.globl cuda_on_host_switch
.type cuda_on_host_switch,@function
cuda_on_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx  # a ret would be mispredicted: half the speed
.size cuda_on_host_switch,.-cuda_on_host_switch
.popsection
)");
#endif
