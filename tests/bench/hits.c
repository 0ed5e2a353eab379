// Does what probes are put on, many times, and tells how long it took.
//
// Usage: hits. In: lines `calls N` (system calls), `functions N`, or `pushes N` (functions that begin with a push, which
// the kernel can emulate). Out: for each the nanoseconds that it took.
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline)) void nothing(void)
{
	__asm__ volatile("" ::: "memory");
}

#ifdef __x86_64__
__attribute__((naked, noinline)) void push(void)
{
	__asm__("push %rbx\n\tpop %rbx\n\tret");
}
#else
__attribute__((noinline)) void push(void)
{
	__asm__ volatile("" ::: "memory");
}
#endif

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(void)
{
	char what[16];
	long count;

	while (scanf("%15s %ld", what, &count) == 2) {
		long long start = now();

		if (!strcmp(what, "calls"))
			while (count--)
				syscall(SYS_getppid);
		else if (!strcmp(what, "pushes"))
			while (count--)
				push();
		else
			while (count--)
				nothing();
		printf("%lld\n", now() - start);
		fflush(stdout);
	}
	return 0;
}
