// The reset vector and the way from 16-bit code in flash to the image in RAM,
// which the flash holds packed.
//
// Entered at reset_vector in real mode, with CS:IP = F000:FFF0 and a CS base of
//  - 0xFFFF0000 after a CPU reset (Intel SDM vol. 3 §10.1.4): QEMU, KVM;
//  - 0xF0000 when hvmloader jumped to the copy of our last 64 KiB that it made
//    below 1 MiB (xen tools/firmware/hvmloader/ovmf.c).
// In both cases the flash image also ends at 4 GiB, so addresses counted back
// from there are right, and 16-bit code only uses offsets from its CS.

.section .reset, "ax"
.balign 64
packed:                         // address of the first LZ4 block: the builder's to fill
    .long 0
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

    movl $0x200, %eax           // OSFXSR
    movl %eax, %cr4

    // The image to where it is linked, up to .cold.
    movl packed - reset_end, %esi
    movl $image_start, %edi
    movl $(1f - reset_end), %edx
    jmp unpack
1:  movl %esi, %ebx             // the second block is behind the first

    // In .cold whatever is called becomes a breakpoint exception: arch::cold.
    movl $0xcccccccc, %eax
    movd %eax, %xmm0
    pshufd $0, %xmm0, %xmm0
    movl $cold_start, %edi
    movl $cold_end, %eax
    movl $(2f - reset_end), %edx
    jmp fill
2:

    // An empty bss.
    xorps %xmm0, %xmm0
    movl $bss_start, %edi
    movl $bss_end, %eax
    movl $(3f - reset_end), %edx
    jmp fill
3:  movl %ebx, cold_packed

    xorl %ebx, %ebx             // no hvm_start_info
    movl %esp, %esi
    movl $start32, %eax
    jmp *%eax

// Fills EDI up to EAX with XMM0, 64 bytes at a time; back to EDX.
fill:
    movaps %xmm0, (%edi)
    movaps %xmm0, 16(%edi)
    movaps %xmm0, 32(%edi)
    movaps %xmm0, 48(%edi)
    addl $64, %edi
    cmpl %eax, %edi
    jb fill
    jmp *%edx

// Unpacks the LZ4 block at ESI to EDI, then returns to EDX with both behind what
// they passed; changes EAX, EBX, ECX, XMM0 to XMM3, and up to 63 bytes behind the
// result. These instructions mean the same in 64-bit mode, for arch::cold.
//
// It copies 16 bytes where fewer are wanted, and does not look out for what the
// builder never writes: matches closer than 16 bytes, of 17, 18 or more than 273
// bytes, an end without 15 literals in front and an offset of 0 behind.
.global unpack
unpack:
    subl $2, %esi               // as if an offset were there
1:  movzbl 2(%esi), %eax        // token
    movl %eax, %ecx
    shrl $4, %ecx               // literals
    cmpl $15, %ecx
    je 4f
    movups 3(%esi), %xmm0
    movups %xmm0, (%edi)
    leal 3(%esi,%ecx), %esi
    addl %ecx, %edi
2:  movzwl (%esi), %ecx         // offset of the match
    negl %ecx
    addl %edi, %ecx
    movups (%ecx), %xmm0
    movups %xmm0, (%edi)
    andl $15, %eax              // length of the match, less 4
    leal 4(%edi,%eax), %edi
    cmpl $15, %eax
    jne 1b

    // A long match. EDI is 19 bytes behind its start.
    movzbl 2(%esi), %eax
    addl $1, %esi
    addl %edi, %eax             // its end
    subl $3, %edi
3:  addl $16, %ecx
    movups (%ecx), %xmm0
    movups %xmm0, (%edi)
    addl $16, %edi
    cmpl %eax, %edi
    jb 3b
    movl %eax, %edi
    jmp 1b

    // Many literals.
4:  movzbl 3(%esi), %ebx
    addl $1, %esi
    addl %ebx, %ecx
    cmpl $255, %ebx
    je 4b
    addl %edi, %ecx             // their end
5:  movups 3(%esi), %xmm0
    movups 19(%esi), %xmm1
    movups 35(%esi), %xmm2
    movups 51(%esi), %xmm3
    movups %xmm0, (%edi)
    movups %xmm1, 16(%edi)
    movups %xmm2, 32(%edi)
    movups %xmm3, 48(%edi)
    addl $64, %esi
    addl $64, %edi
    cmpl %ecx, %edi
    jb 5b
    subl %ecx, %edi
    subl %edi, %esi
    addl $3, %esi
    movl %ecx, %edi
    cmpw $0, (%esi)
    jne 2b
    addl $2, %esi
    jmp *%edx

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
