// What every application processor runs once: the model-specific registers of
// a list, then nothing more. It is copied to a page below 1 MiB and entered
// there in real mode, at offset 0 of its segment (Intel SDM vol. 3 §9.4.4).
// The list follows behind processor_end: register, low half, high half of the
// value, ending with register 0.

.section .rodata.processor, "a"
.balign 4
.global processor_start, processor_count, processor_end
.code16
processor_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movw $(processor_end - processor_start), %si
1:  lodsl
    testl %eax, %eax
    jz 2f
    movl %eax, %ecx
    lodsl
    movl %eax, %ebx
    lodsl
    movl %eax, %edx
    movl %ebx, %eax
    wrmsr
    jmp 1b
2:  lock incl (processor_count - processor_start)
3:  hlt
    jmp 3b

.balign 4
processor_count:                // processors that are done
    .long 0
processor_end:
.code64
