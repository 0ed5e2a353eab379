/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which execution context (PEP 567) a thread of Python is in: of each task of asyncio its own, and of each callback.
 *
 * Where the interpreter keeps it is learned by user space (autoinstr/libraries/python_layout.py) and part of the
 * process's RUNTIME_* flags.
 */
#ifndef AUTOINSTR_PYTHON_H
#define AUTOINSTR_PYTHON_H

/* struct _pycontextobject of Python 3.7 and newer, in 64 bits */
#define CONTEXT_ENTERED 40

/* The current context's address; 0: none was entered, as in a thread that runs no tasks. */
static __always_inline __u64 python_context(__u32 runtime)
{
#ifdef OFFSET_task_fsbase
	__u64 thread = kernel_u64(bpf_get_current_task() + OFFSET_task_fsbase);
	__u64 state = 0, context = 0;
	__u32 entered = 0;

	if (bpf_probe_read_user(&state, sizeof(state), (void *)(thread + RUNTIME_STATE(runtime))) || !state)
		return 0;
	if (bpf_probe_read_user(&context, sizeof(context), (void *)(state + RUNTIME_CONTEXT(runtime))) || !context)
		return 0;
	/* one that a thread has without entering it is made where no probe sees it, maybe at the place of an older one */
	if (bpf_probe_read_user(&entered, sizeof(entered), (void *)(context + CONTEXT_ENTERED)) || !entered)
		return 0;
	return context;
#else
	return 0;
#endif
}

#endif
