// The common entry: 32-bit protected mode with flat segments, at the link
// address, to 64-bit mode with the first 4 GiB mapped one to one.
//
// PVH loaders enter here, too (Xen docs/misc/pvh.pandoc): EBX points to
// hvm_start_info; from the reset vector it is 0, and EBP:ESI the time stamp at
// reset. Nothing else is known, and selectors may have no descriptors behind
// them: no segment register is loaded before our own descriptor table is.

.section .note.pvh, "a", @note
.balign 4
    .long 2f - 1f, 4f - 3f
    .long 18                    // XEN_ELFNOTE_PHYS32_ENTRY
1:  .asciz "Xen"
2:  .balign 4
3:  .long start32
4:  .balign 4

.section .text.start32, "ax"
.code32
.global start32
start32:
    cli
    cld
    lgdtl gdt_pointer
    testl %ebx, %ebx
    jz 1f
    rdtsc                       // from a PVH loader; from reset they have it
    movl %eax, %esi
    movl %edx, %ebp
1:  movl %esi, entered
    movl %ebp, entered + 4
    movl $stack_top, %esp

    // PML4[0] -> PDPT, PDPT[0..4] -> page directories.
    movl $page_tables + 0x1003, page_tables
    movl $page_directories + 3, %eax
    movl $page_tables + 0x1000, %edi
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    loop 1b

    movl $0x620, %eax           // PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4

    // 2048 pages of 2 MiB, two at a time: present, writable, large. What was there
    // is whatever hvmloader left.
    movaps first_pages, %xmm0
    movl $page_directories, %edi
    movl $1024, %ecx
2:  movaps %xmm0, (%edi)
    paddq next_pages, %xmm0
    addl $16, %edi
    loop 2b

    movl $page_tables, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      // IA32_EFER.LME
    rdmsr
    btsl $8, %eax
    wrmsr
    movl $0x80010033, %eax      // PG, WP, NE, ET, MP, PE; caches on
    movl %eax, %cr0
    ljmpl $0x18, $start64

.code64
start64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $stack_top, %esp
    fninit
    pushq $0x1f80               // MXCSR: all exceptions masked
    ldmxcsr (%rsp)
    popq %rax
    movl %ebx, %edi             // zero-extended: the first argument
    movq entered, %rsi          // the second
    call {main}
3:  hlt
    jmp 3b

.section .data.gdt, "aw"
.balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    // 0x08: 32-bit code
    .quad 0x00cf93000000ffff    // 0x10: data
    .quad 0x00af9b000000ffff    // 0x18: 64-bit code
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .quad gdt
.balign 16
first_pages:                    // entries of a page directory
    .quad 0x000083, 0x200083
next_pages:                     // to the two behind them
    .quad 0x400000, 0x400000

.section .bss.entry, "aw", @nobits
.balign 4096
page_tables:
    .skip 0x2000
entered:                        // time stamp of our first instruction
    .quad 0
.global cold_packed
cold_packed:                    // LZ4 block that belongs into .cold, if it is not there
    .long 0

.section .bss.uncleared.entry, "aw", @nobits
.balign 4096
page_directories:
    .skip 0x4000
stack:
    .skip {stack_size}
stack_top:
