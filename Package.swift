// swift-tools-version:6.0
import Foundation
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
        .target(name: "Values"),
        .target(name: "System", dependencies: ["CLinux", "Values"]),
        .target(name: "Model", dependencies: ["Values"]),
        .target(name: "Planning", dependencies: ["Values", "Model"]),
        .target(name: "CloudInit", dependencies: ["CLibYAML", "Values", "System", "Model"]),
        .target(name: "Host", dependencies: ["CHost", "CLinux", "Values", "System", "Model"]),
        .target(name: "Images", dependencies: ["CLinux", "CLoad", "Values", "System", "Model"]),
        .target(
            name: "Supervision",
            dependencies: ["CLinux", "Values", "System", "Model", "Planning", "Host", "Images"]),
        .target(
            name: "SnabbVMCore",
            dependencies: [
                "CLinux", "Values", "System", "Model", "Planning", "CloudInit", "Host", "Images", "Supervision",
            ]),
        .executableTarget(name: "snabbvm", dependencies: ["SnabbVMCore"]),
    ],
    swiftLanguageModes: [.v6]
)

// A file imports each module whose members it uses, and not only those whose types it names: so its imports say all.
for target in package.targets where target.type == .regular {
    target.swiftSettings = [.enableUpcomingFeature("MemberImportVisibility")]
}

// Tests follow the targets; those that start servers, and those that boot machines, are apart. Where the image is built
// there are only sources.
let all: [Target.Dependency] = [
    "CLinux", "Values", "System", "Model", "Planning", "CloudInit", "Host", "Images", "Supervision", "SnabbVMCore",
]
if FileManager.default.fileExists(atPath: "\(Context.packageDirectory)/Tests/Support") {
    package.targets.append(.target(name: "TestSupport", dependencies: all, path: "Tests/Support"))
    for name in [
        "Values", "System", "Model", "Planning", "CloudInit", "Host", "Images", "Supervision", "Core", "Fetching",
        "Machine",
    ] {
        package.targets.append(
            .testTarget(
                name: "\(name)Tests", dependencies: all + ["TestSupport"],
                exclude: name == "Planning" ? ["Golden"] : []))
    }
}
