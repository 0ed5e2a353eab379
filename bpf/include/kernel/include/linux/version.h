/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Only bcc's own headers look at these; programs here ask the running kernel instead. */
#define LINUX_VERSION_CODE 0x050a00
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
