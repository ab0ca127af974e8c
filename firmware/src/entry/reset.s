// The reset vector and the way from 16-bit code in flash to the image in RAM.
//
// Entered at reset_vector in real mode, with CS:IP = F000:FFF0 and a CS base of
//  - 0xFFFF0000 after a CPU reset (Intel SDM vol. 3 §10.1.4): QEMU, KVM;
//  - 0xF0000 when hvmloader jumped to the copy of our last 64 KiB that it made
//    below 1 MiB (xen tools/firmware/hvmloader/ovmf.c).
// In both cases the flash image also ends at 4 GiB, so addresses counted back
// from there are right, and 16-bit code only uses offsets from its CS.

.section .reset, "aw"
.balign 64
.code16
reset16:
    cli
    cld
    rdtsc
    movl %eax, %esp             // no stack yet: kept for start32
    movl %edx, %ebp
    lgdtl %cs:(reset_gdt_pointer - reset_end + 0x10000)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $(reset32 - reset_end)

.code32
reset32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss

    // The image to where it is linked, 64 bytes at a time.
    movl $0x200, %eax           // OSFXSR
    movl %eax, %cr4
    movl $flash_start, %esi
    movl $image_start, %edi
    movl $image_size, %ecx
    shrl $6, %ecx
1:  movaps (%esi), %xmm0
    movaps 16(%esi), %xmm1
    movaps 32(%esi), %xmm2
    movaps 48(%esi), %xmm3
    movaps %xmm0, (%edi)
    movaps %xmm1, 16(%edi)
    movaps %xmm2, 32(%edi)
    movaps %xmm3, 48(%edi)
    addl $64, %esi
    addl $64, %edi
    loop 1b

    // An empty bss behind it.
    movl $bss_start, %edi
    movl $bss_size, %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl

    xorl %ebx, %ebx             // no hvm_start_info
    movl %esp, %esi
    movl $start32, %eax
    jmp *%eax

.balign 8
reset_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff // 0x08: 32-bit code, 4 GiB from 0
    .quad 0x00cf93000000ffff // 0x10: data, 4 GiB from 0
reset_gdt_pointer:
    .word reset_gdt_pointer - reset_gdt - 1
    .long reset_gdt - reset_end

// The vector's 16 bytes end a block of 64.
.balign 64
.skip 48
.code16
reset_vector:
    jmp reset16
.balign 16
reset_end:
