// swift-tools-version:6.0
import PackageDescription

// Tools version 6.0, so that the compiler in Debian 13 builds it too; `make` adds -warnings-as-errors.
let package = Package(
    name: "snabbvm",
    products: [.executable(name: "snabbvm", targets: ["snabbvm"])],
    targets: [
        .systemLibrary(name: "CLibYAML"),
        .target(name: "CLinux"),
        .target(name: "CLoad"),
        .target(name: "CHost", linkerSettings: [.linkedLibrary("pci")]),
        .target(name: "SnabbVMCore", dependencies: ["CHost", "CLibYAML", "CLinux", "CLoad"]),
        .executableTarget(name: "snabbvm", dependencies: ["SnabbVMCore"]),
        .testTarget(name: "SnabbVMCoreTests", dependencies: ["SnabbVMCore", "CLinux"], exclude: ["Golden"]),
    ],
    swiftLanguageModes: [.v6]
)
