/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* System call numbers, and the registers of arguments: the only place that knows the architecture. */
#ifndef AUTOINSTR_SYSCALLS_H
#define AUTOINSTR_SYSCALLS_H

#ifdef __aarch64__
#define NR_close 57
#define NR_read 63
#define NR_write 64
#define NR_readv 65
#define NR_writev 66
#define NR_sendfile 71
#define NR_splice 76
#define NR_accept 202
#define NR_connect 203
#define NR_getsockopt 209
#define NR_sendto 206
#define NR_recvfrom 207
#define NR_sendmsg 211
#define NR_recvmsg 212
#define NR_accept4 242
#define NR_recvmmsg 243
#define NR_sendmmsg 269
#define NR_preadv2 286
#define NR_pwritev2 287
#define NR_mmap 222
#define NR_epoll_pwait 22
#define NR_epoll_pwait2 441
#define NR_ppoll 73
#define NR_pselect6 72
#else
#define NR_read 0
#define NR_write 1
#define NR_close 3
#define NR_readv 19
#define NR_writev 20
#define NR_sendfile 40
#define NR_connect 42
#define NR_getsockopt 55
#define NR_accept 43
#define NR_sendto 44
#define NR_recvfrom 45
#define NR_sendmsg 46
#define NR_recvmsg 47
#define NR_splice 275
#define NR_accept4 288
#define NR_recvmmsg 299
#define NR_sendmmsg 307
#define NR_preadv2 327
#define NR_pwritev2 328
#define NR_mmap 9
#define NR_epoll_wait 232
#define NR_epoll_pwait 281
#define NR_epoll_pwait2 441
#define NR_poll 7
#define NR_ppoll 271
#define NR_select 23
#define NR_pselect6 270
#endif

/* A function's arguments on its entry, and what it returns; its stack pointer on entry, and the same on return. */
#ifdef __aarch64__
#define ARGUMENT(n, registers) ((registers)->regs[(n) - 1])
#define RETURNED(registers) ((registers)->regs[0])
#define STACK_ON_ENTRY(registers) ((registers)->sp)
#define STACK_ON_RETURN(registers) ((registers)->sp)
#else
#define ARGUMENT_1(registers) ((registers)->di)
#define ARGUMENT_2(registers) ((registers)->si)
#define ARGUMENT_3(registers) ((registers)->dx)
#define ARGUMENT_4(registers) ((registers)->cx)
#define ARGUMENT(n, registers) ARGUMENT_##n(registers)
#define RETURNED(registers) ((registers)->ax)
#define STACK_ON_ENTRY(registers) ((registers)->sp)
#define STACK_ON_RETURN(registers) ((registers)->sp - 8) /* the return address is popped */
#endif

/*
 * Go's calling convention (ABIInternal): arguments and results in registers, the goroutine in one, too. GO_HOME: where the
 * caller has left room for the arguments, from the stack pointer on return; GO_SECOND_LEFT: for the second, once returned.
 * GO_BEGINS_AGAIN: at the branch that ends the check of the stack: it is too small, and the function will begin again with a
 * larger one. GO_STACK_ON_RETURN: in the middle of a function, by the frame's pointer; where frames do not tell, returns are
 * emulated. PROBED_AT: the instruction.
 */
#ifdef __aarch64__
#define GOROUTINE(registers) ((registers)->regs[28])
#define GO_ARGUMENT_1(registers) ((registers)->regs[0])
#define GO_ARGUMENT_2(registers) ((registers)->regs[1])
#define GO_ARGUMENT_3(registers) ((registers)->regs[2])
#define GO_ARGUMENT_4(registers) ((registers)->regs[3])
#define GO_ARGUMENT_6(registers) ((registers)->regs[5])
#define GO_ARGUMENT_7(registers) ((registers)->regs[6])
#define GO_SECOND_LEFT 16
#define GO_BEGINS_AGAIN(registers) (((registers)->pstate >> 29 & 3) != 1) /* b.ls: no carry, or zero */
#define GO_STACK_ON_RETURN(registers) 0
#define PROBED_AT(registers) ((registers)->pc)
#else
#define GOROUTINE(registers) ((registers)->r14)
#define GO_ARGUMENT_1(registers) ((registers)->ax)
#define GO_ARGUMENT_2(registers) ((registers)->bx)
#define GO_ARGUMENT_3(registers) ((registers)->cx)
#define GO_ARGUMENT_4(registers) ((registers)->di)
#define GO_ARGUMENT_6(registers) ((registers)->r8)
#define GO_ARGUMENT_7(registers) ((registers)->r9)
#define GO_SECOND_LEFT 8
#define GO_BEGINS_AGAIN(registers) ((registers)->flags & 0x41) /* jbe: carry or zero */
#define GO_STACK_ON_RETURN(registers) ((registers)->bp + 8)
#define PROBED_AT(registers) ((registers)->ip)
#endif
#define GO_HOME 8

/* A system call, from the registers of the task that makes it. They still hold the arguments when it returns. */
struct syscall {
	__u64 nr;
	__u64 args[4];
	__u64 goroutine; /* if it is one */
};

/* Where the fifth argument is, which hardly any call is asked for. */
#ifdef __aarch64__
#define FIFTH_ARGUMENT(registers) (&((const struct pt_regs *)(registers))->regs[4])
#else
#define FIFTH_ARGUMENT(registers) (&((const struct pt_regs *)(registers))->r8)
#endif

#define REGISTER(at, name) (*(const __u64 *)((at) + __builtin_offsetof(struct pt_regs, name)))

static __always_inline int read_syscall(struct syscall *call, const void *registers)
{
	const struct pt_regs *regs = registers;
#ifdef __aarch64__
	struct {
		__u64 x1, x2, x3;
	} args;
	struct {
		__u64 orig_x0;
		__u64 nr;
	} origin;

	if (bpf_probe_read_kernel(&args, sizeof(args), &regs->regs[1]) ||
	    bpf_probe_read_kernel(&origin, sizeof(origin), &regs->orig_x0))
		return 0;
	call->nr = (__u32)origin.nr;
	call->args[0] = origin.orig_x0;
	call->args[1] = args.x1;
	call->args[2] = args.x2;
	call->args[3] = args.x3;
	bpf_probe_read_kernel(&call->goroutine, sizeof(call->goroutine), &GOROUTINE(regs));
#elif defined(KFUNC_bpf_rdonly_cast)
	const void *at = bpf_rdonly_cast((__u64)regs, BTF_ID_pt_regs);

	call->nr = REGISTER(at, orig_ax);
	call->args[0] = REGISTER(at, di);
	call->args[1] = REGISTER(at, si);
	call->args[2] = REGISTER(at, dx);
	call->args[3] = REGISTER(at, r10);
	call->goroutine = REGISTER(at, r14);
#else
	struct {
		__u64 r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax;
	} at;

	if (bpf_probe_read_kernel(&at, sizeof(at), &regs->r14))
		return 0;
	call->nr = at.orig_ax;
	call->args[0] = at.di;
	call->args[1] = at.si;
	call->args[2] = at.dx;
	call->args[3] = at.r10;
	call->goroutine = at.r14;
#endif
	return 1;
}

#endif
